//! Laws over any messages at any size: nothing panics, the state stays sound, every state can be drawn.

use proptest::prelude::*;

use super::samples::{self, NOON};
use crate::domain::Ms;
use crate::tui::msg::{Acted, Answer, Body, Code, JobsPart, Key, Mouse, Msg, Reply};
use crate::tui::once::frame;
use crate::tui::state::State;
use crate::tui::update::update;
use crate::tui::views::View;

fn keys() -> impl Strategy<Value = Msg> {
    let named = prop::sample::select(vec![
        Code::Up,
        Code::Down,
        Code::Left,
        Code::Right,
        Code::Enter,
        Code::Esc,
        Code::Tab,
        Code::BackTab,
        Code::Backspace,
        Code::Delete,
        Code::Home,
        Code::End,
        Code::PageUp,
        Code::PageDown,
    ]);
    let chars = prop_oneof![
        8 => prop::sample::select("jkgGhl123456789:/!sSw v*rxpDedtaAXnLyczRfT?qn+-[]".chars().collect::<Vec<_>>()),
        1 => any::<char>(),
    ];
    let code = prop_oneof![named, chars.prop_map(Code::Char)];
    // ctrl-c and ctrl-z are left out: they end the console.
    (code, prop::bool::weighted(0.05)).prop_map(|(code, ctrl)| {
        let ctrl = ctrl && !matches!(code, Code::Char('c' | 'z'));
        Msg::Key(Key { code, ctrl })
    })
}

fn bodies() -> impl Strategy<Value = Body> {
    (prop::sample::select(View::ALL.to_vec()), 0..5u8).prop_map(|(view, which)| match which {
        0 => samples::empty(view),
        1 => samples::typical(view),
        2 => samples::hostile(view),
        3 => Body::Jobs(JobsPart { filling: true, more: true, looked: Some(9), ..JobsPart::default() }),
        _ => samples::full(view),
    })
}

fn messages() -> impl Strategy<Value = Msg> {
    let answers = prop_oneof![
        6 => bodies().prop_map(Answer::Body),
        1 => Just(Answer::Lost { why: "away".to_owned(), retry_at: NOON }),
        1 => Just(Answer::Refused(samples::HOSTILE.to_owned())),
        1 => any::<bool>().prop_map(|failed| {
            Answer::Acted(Acted { sentence: samples::HOSTILE.to_owned(), command: "goflow".to_owned(), failed })
        }),
    ];
    prop_oneof![
        12 => keys(),
        1 => keys().prop_map(|msg| if let Msg::Key(key) = msg { Msg::EscAnd(key) } else { msg }),
        2 => (0..300u16, 0..100u16).prop_map(|(x, y)| Msg::Mouse(Mouse::Click(x, y))),
        1 => prop::sample::select(vec![Mouse::Up, Mouse::Down]).prop_map(Msg::Mouse),
        1 => ".{0,12}".prop_map(Msg::Paste),
        1 => (0..230u16, 0..80u16).prop_map(|(columns, rows)| Msg::Resize(columns, rows)),
        1 => (-5_000..5_000_000i64).prop_map(|ms| Msg::Tick(Ms(NOON.0 + ms))),
        // Whose generation is right is only known when it is sent: here half of them are.
        6 => (0..2u64, answers).prop_map(|(generation, answer)| Msg::Reply(Reply { generation, at: NOON, answer })),
        1 => ".{0,12}".prop_map(Msg::Failed),
    ]
}

fn is_sound(state: &State) -> bool {
    let page = state.page();
    let selected = page.id_at(page.cursor.at);
    !state.stack.is_empty()
        && (page.is_empty() || (page.cursor.at < page.len() && selected == page.cursor.id.as_deref()))
        && page.cursor.top <= page.cursor.at
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_messages_at_any_size_leave_a_sound_state_that_can_be_drawn(
        size in (0..230u16, 0..80u16),
        msgs in prop::collection::vec(messages(), 1..60),
    ) {
        let mut state = samples::state(View::Overview, size);
        for msg in msgs {
            let msg = match msg {
                Msg::Reply(reply) => {
                    let generation = state.generation.saturating_sub(reply.generation);
                    Msg::Reply(Reply { generation, ..reply })
                }
                msg => msg,
            };
            let told = format!("{msg:?}");
            let _ = update(&mut state, msg);
            prop_assert!(is_sound(&state), "after {told:.200}");
        }
        if state.size.0 > 0 && state.size.1 > 0 {
            let shown = frame(&state);
            prop_assert_eq!(shown.lines().count(), usize::from(state.size.1));
        }
    }
}
