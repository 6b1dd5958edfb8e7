//! Private servers for tests: on loopback, in temporary folders, gone with the test.

pub mod certificates;
pub mod http;
pub mod port;
pub mod postgres;
pub mod redis;
pub mod redis_nodes;
