//! Jobs in Rust: a typed payload, a typed result, progress, and failures that say what is to become of
//! the job. Run it with `cargo run --example email`, or on a store that outlives it with
//! `cargo run --example email -- sqlite:jobs.db`.

use std::time::Duration;

use goflow::{Client, Error, Failure, Job, Worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Email {
    to: String,
    subject: String,
}

async fn send_email(job: Job<Email>) -> Result<String, Failure> {
    let Email { to, subject } = &job.payload;
    if !to.contains('@') {
        // Another attempt would only fail again.
        return Err(Failure::bury("that is no address"));
    }
    if subject == "hello" && job.attempt() == 1 {
        // Another attempt may do better; one that may not come sooner says so.
        return Err(Failure::retry_in(Duration::from_millis(100), "the server is busy").class("smtp:421"));
    }
    job.progress(50.0, "connected");
    Ok(format!("sent to {to}, at attempt {}", job.attempt()))
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "memory:".to_owned());
    let client = Client::connect(&url).await?;
    let mut ids = Vec::new();
    for (to, subject) in [("ada@example.com", "hello"), ("nobody", "hello"), ("bob@example.com", "news")] {
        let email = Email { to: to.to_owned(), subject: subject.to_owned() };
        ids.push(client.job("send_email").payload(&email).queue("mail").max_retries(5).enqueue().await?);
    }

    let summary = Worker::new(&client).handle("send_email", send_email).concurrency(2).until_empty().run().await?;
    println!("{} completed, {} retried, {} dead", summary.completed, summary.retried, summary.dead);

    for id in ids {
        match client.wait::<String>(id).await {
            Ok(told) => println!("{told}"),
            Err(Error::Ended { error: Some(error), .. }) => println!("buried: {error}"),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
