//! `goflow top`, the operator's console. One task owns the [`State`](state::State): input and data
//! only send it messages. [`update`] is a pure function of state and message, [`view`] of state alone;
//! what has to be done outside is an [`Effect`](msg::Effect), done by `run` (the terminal) or `data` (the
//! store, through `api`). Knows no database and prints nothing beside its frames.
//!
//! ```text
//!   keys, mouse, size ─┐                        ┌─ run: draw, copy, suspend, edit
//!   clock, once a look ┼→ Msg → update(state) → ┤
//!   data: replies ─────┘        Vec<Effect>     └─ data: fetch the page, do a verb ─→ Reply
//! ```
//!
//! A new view is: a name in [`views`], a file in `rows/` if it is a list (its row and columns), a query
//! in `msg::Query` and its answer in `data/`, a file in `view/`. The page of a run, which is no list but
//! moves like one, makes its rows in `run_page`.

pub mod data;
mod edit;
pub mod keys;
pub mod layout;
pub mod msg;
pub mod once;
pub mod record;
pub mod rows;
pub mod run;
pub mod run_page;
mod screen;
pub mod state;
pub mod svg;
pub mod text;
pub mod theme;
pub mod update;
pub mod view;
pub mod views;

#[cfg(test)]
mod tests;
