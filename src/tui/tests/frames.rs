//! Frames of each view in each condition at each size, as text.

use super::samples::{self, key, press, state, told};
use crate::tui::msg::{Answer, Code, Msg, Reply};
use crate::tui::once::frame;
use crate::tui::state::State;
use crate::tui::theme::{Colours, Theme};
use crate::tui::update::update;
use crate::tui::views::View;

const SIZES: [(u16, u16); 4] = [(80, 24), (120, 40), (200, 60), (59, 11)];

/// The conditions that a view is drawn in.
const CONDITIONS: [&str; 6] = ["empty", "typical", "full", "lost", "error", "popup"];

fn lose(state: &mut State) {
    let retry_at = crate::domain::Ms(samples::NOON.0 + 3_600);
    let why = "Connection refused: redis://localhost:6379".to_owned();
    let at = samples::NOON;
    let _ =
        update(state, Msg::Reply(Reply { generation: state.generation, at, answer: Answer::Lost { why, retry_at } }));
}

fn in_condition(view: View, condition: &str, size: (u16, u16)) -> State {
    let begun = state(view, size);
    let mut state = match condition {
        "empty" => told(begun, samples::empty(view)),
        "full" => told(begun, samples::full(view)),
        _ => told(begun, samples::typical(view)),
    };
    match condition {
        "lost" => {
            lose(&mut state);
            let _ = update(&mut state, key('p'));
            let _ = update(&mut state, key('r'));
        }
        "error" => {
            let why = "no job has the id `7`".to_owned();
            let at = samples::NOON;
            let reply = Reply { generation: state.generation, at, answer: Answer::Refused(why) };
            let _ = update(&mut state, Msg::Reply(reply));
        }
        "popup" => {
            let _ = update(&mut state, key('?'));
        }
        _ => {}
    }
    state
}

#[test]
fn each_view_in_each_condition_at_each_size() {
    for view in View::ALL {
        for condition in CONDITIONS {
            let mut text = String::new();
            for size in SIZES {
                let shown = frame(&in_condition(*view, condition, size));
                assert_eq!(shown.lines().count(), usize::from(size.1));
                text.push_str(&format!("{}x{}\n{shown}", size.0, size.1));
            }
            insta::assert_snapshot!(format!("{}_{condition}", view.title().to_lowercase()), text);
        }
    }
}

#[test]
fn popups_lie_over_the_page() {
    let open = |view, keys: &[Msg]| {
        let mut state = told(state(view, (80, 24)), samples::typical(view));
        for msg in keys {
            let _ = update(&mut state, msg.clone());
        }
        frame(&state)
    };
    let typed = |text: &str| text.chars().map(key).collect::<Vec<_>>();
    insta::assert_snapshot!("popup_palette", open(View::Jobs, &typed(":ret")));
    insta::assert_snapshot!("popup_confirm", open(View::Jobs, &typed("  x")));
    insta::assert_snapshot!("popup_filter", open(View::Queues, &typed("/dead>1 nope ")));
    insta::assert_snapshot!("popup_raw", open(View::Job, &typed("y")));
    insta::assert_snapshot!("popup_approve", open(View::Run, &typed("a")));
    insta::assert_snapshot!("popup_signal", open(View::Run, &typed("n")));
    insta::assert_snapshot!("run_in_the_past", open(View::Run, &typed("[[[[")));
    let back = open(View::Jobs, &[key('?'), press(Code::Esc)]);
    assert_eq!(back, open(View::Jobs, &[]));
}

#[test]
fn nothing_foreign_reaches_the_screen_raw() {
    for view in View::ALL {
        for size in SIZES {
            let mut state = told(state(*view, size), samples::hostile(*view));
            state.stack.push(state.page().clone());
            for keys in ["", "y", "*"] {
                for c in keys.chars() {
                    let _ = update(&mut state, key(c));
                }
                let shown = frame(&state);
                let raw = shown.chars().find(|c| {
                    (c.is_control() && *c != '\n') || matches!(c, '\u{202e}' | '\u{200b}' | '\u{9b}' | '\u{200d}')
                });
                assert_eq!(raw, None, "{view:?} at {size:?}");
                for line in shown.lines() {
                    assert!(crate::tui::text::width(line) <= usize::from(size.0), "{view:?}: {line}");
                }
            }
        }
    }
}

#[test]
fn the_ascii_set_is_used_where_the_locale_asks() {
    for view in View::ALL {
        for condition in CONDITIONS {
            let mut state = in_condition(*view, condition, (120, 40));
            state.theme = Theme { colours: Colours::Mono, unicode: false };
            let shown = frame(&state);
            assert!(shown.is_ascii(), "{view:?} {condition}: {:?}", shown.chars().find(|c| !c.is_ascii()));
        }
    }
}

#[test]
fn every_key_of_the_table_is_in_the_help() {
    use crate::tui::keys::{held, names};
    for view in View::ALL {
        let mut state = told(state(*view, (80, 70)), samples::typical(*view));
        let _ = update(&mut state, key('?'));
        let shown = frame(&state);
        for one in held(*view, state.about.sharded) {
            assert!(shown.contains(one.text) && shown.contains(&names(one, true)), "{view:?}: {}", one.text);
        }
    }
}
