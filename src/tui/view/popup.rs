//! What lies over the page: help, palette, questions, raw text.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Clear, Paragraph};

use super::span;
use crate::tui::keys::{self, Group};
use crate::tui::state::{Confirm, Form, Overlay, State};
use crate::tui::text::{clean, fit, lines, width};
use crate::tui::theme::Tone;
use crate::tui::update;

pub fn draw(state: &State, frame: &mut Frame<'_>, body: Rect) {
    match &state.overlay {
        None | Some(Overlay::Filter { .. }) => {}
        Some(Overlay::Help { scroll }) => help(state, frame, body, *scroll),
        Some(Overlay::Palette { input, at }) => palette(state, frame, body, input, *at),
        Some(Overlay::Confirm(confirm)) => question(state, frame, body, confirm),
        Some(Overlay::Form(form)) => filled_in(state, frame, body, form),
        Some(Overlay::Raw { text, scroll }) => raw(state, frame, body, text, *scroll),
    }
}

/// A frame in the middle of the page; answers the room within it.
fn window(state: &State, frame: &mut Frame<'_>, body: Rect, title: &str, size: (usize, usize)) -> Rect {
    let columns = u16::try_from(size.0.saturating_add(4)).unwrap_or(u16::MAX).min(body.width);
    let height = u16::try_from(size.1.saturating_add(2)).unwrap_or(u16::MAX).min(body.height);
    let area =
        Rect { x: body.x + (body.width - columns) / 2, y: body.y + (body.height - height) / 2, width: columns, height };
    frame.render_widget(Clear, area);
    let mut block = Block::bordered().title(span(state.theme, &format!(" {title} "), Tone::Title));
    if state.theme.unicode {
        block = block.border_type(BorderType::Rounded);
    } else {
        block = block.border_set(ASCII);
    }
    let inner = block.inner(area);
    frame.render_widget(block, area);
    Rect { x: inner.x + 1.min(inner.width), width: inner.width.saturating_sub(2), ..inner }
}

const ASCII: ratatui::symbols::border::Set<'static> = ratatui::symbols::border::Set {
    top_left: "+",
    top_right: "+",
    bottom_left: "+",
    bottom_right: "+",
    vertical_left: "|",
    vertical_right: "|",
    horizontal_top: "-",
    horizontal_bottom: "-",
};

fn scrolled(frame: &mut Frame<'_>, area: Rect, out: &[Line<'static>], scroll: usize) {
    let last = out.len().saturating_sub(usize::from(area.height));
    for (line, y) in out.iter().skip(scroll.min(last)).zip(area.y..area.y + area.height) {
        frame.render_widget(line, Rect { y, height: 1, ..area });
    }
}

fn help(state: &State, frame: &mut Frame<'_>, body: Rect, scroll: usize) {
    let theme = state.theme;
    let view = state.page().view;
    let mut out = Vec::new();
    for group in Group::ALL {
        if !out.is_empty() {
            out.push(Line::default());
        }
        out.push(Line::from(span(theme, group.title(), Tone::Title)));
        for one in keys::held(view, state.about.sharded).filter(|one| one.group == group) {
            let names = keys::names(one, theme.unicode);
            let space = " ".repeat(14usize.saturating_sub(width(&names)));
            out.push(Line::from(vec![
                span(theme, &format!("  {names}{space}"), Tone::Busy),
                span(theme, one.text, Tone::Plain),
            ]));
        }
    }
    let title = format!("Keys in {}", view.title());
    let area = window(state, frame, body, &title, (56, out.len()));
    let last = out.len().saturating_sub(usize::from(area.height));
    if last > 0 {
        // On the border below, so that nothing is hidden by it.
        let (up, down) = (theme.sign("↑", "k"), theme.sign("↓", "j"));
        let more = if scroll < last { format!(" {down} more ") } else { format!(" {up} more ") };
        let wide = u16::try_from(width(&more)).unwrap_or(0).min(area.width);
        let at = Rect { x: area.x + area.width - wide, y: area.y + area.height, width: wide, height: 1 };
        frame.render_widget(span(theme, &more, Tone::Title), at);
    }
    scrolled(frame, area, &out, scroll);
}

fn palette(state: &State, frame: &mut Frame<'_>, body: Rect, input: &str, at: usize) {
    let theme = state.theme;
    let found = update::choices(state, input);
    let area = window(state, frame, body, "Go, do", (56, 14));
    let line = Line::from(vec![
        span(theme, ": ", Tone::Title),
        span(theme, input, Tone::Plain),
        Span::styled(" ", theme.selected()),
    ]);
    frame.render_widget(line, Rect { height: area.height.min(1), ..area });
    let room = usize::from(area.height.saturating_sub(1));
    let top = (at + 1).saturating_sub(room);
    for (nth, choice) in found.iter().enumerate().skip(top).take(room) {
        let y = area.y + 1 + u16::try_from(nth - top).unwrap_or(0);
        let columns = usize::from(area.width);
        let text = fit(&choice.text, columns.saturating_sub(width(&choice.key) + 1), theme.unicode);
        let space = " ".repeat(columns.saturating_sub(width(&text) + width(&choice.key)));
        let line = Line::from(format!("{text}{space}{}", choice.key));
        let line = if nth == at { line.style(theme.selected()) } else { line };
        frame.render_widget(line, Rect { y, height: 1, ..area });
    }
}

fn question(state: &State, frame: &mut Frame<'_>, body: Rect, confirm: &Confirm) {
    let theme = state.theme;
    let room = usize::from(body.width).saturating_sub(8).min(60);
    let mut text = lines(&confirm.question, room, 6, theme.unicode);
    if let Some(counted) = &confirm.counted {
        text.extend(lines(counted, room, 3, theme.unicode));
    }
    let area = window(state, frame, body, "Sure?", (room, text.len() + 2));
    let out: Vec<Line<'static>> = text.iter().map(|line| Line::from(span(theme, line, Tone::Plain))).collect();
    scrolled(frame, area, &out, 0);
    let style = |focused: bool| if focused { theme.selected() } else { theme.style(Tone::Plain) };
    let buttons = Line::from(vec![
        Span::styled(" Cancel ", style(!confirm.yes)),
        Span::raw("   "),
        Span::styled(format!(" {} ", update::does(&confirm.order)), style(confirm.yes)),
    ]);
    let y = area.y + area.height.saturating_sub(1);
    frame.render_widget(Paragraph::new(buttons), Rect { y, height: area.height.min(1), ..area });
}

fn filled_in(state: &State, frame: &mut Frame<'_>, body: Rect, form: &Form) {
    let theme = state.theme;
    let room = usize::from(body.width).saturating_sub(8).min(72);
    let title = fit(&form.title, room.saturating_sub(2), theme.unicode).into_owned();
    let area = window(state, frame, body, &title, (room, form.fields.len() + 3 + usize::from(!form.hint.is_empty())));
    let mut out = Vec::new();
    for (nth, field) in form.fields.iter().enumerate() {
        let name = format!("{:<8} ", field.name);
        let is_written = nth == form.at;
        // The end of a long text is what is being written.
        let columns = usize::from(area.width).saturating_sub(width(&name) + 1);
        let text = end_of(&clean(&field.text, theme.unicode), columns);
        let mut spans = vec![
            span(theme, &name, if is_written { Tone::Title } else { Tone::Faint }),
            span(theme, &text, Tone::Plain),
        ];
        if is_written {
            spans.push(Span::styled(" ", theme.selected()));
        }
        out.push(Line::from(spans));
    }
    out.push(Line::default());
    if !form.hint.is_empty() {
        out.push(Line::from(span(theme, form.hint, Tone::Faint)));
    }
    let told = match &form.error {
        Some(error) => span(theme, error, Tone::Bad),
        None => span(theme, "Enter sends it, Tab goes to the next line, Esc leaves", Tone::Faint),
    };
    out.push(Line::from(told));
    scrolled(frame, area, &out, 0);
}

/// The end of a text that is harmless already, in at most so many columns.
fn end_of(text: &str, columns: usize) -> String {
    let mut from = 0;
    let mut cut = text.char_indices().map(|(at, _)| at).skip(1);
    while width(&text[from..]) > columns {
        from = cut.next().unwrap_or(text.len());
    }
    text[from..].to_owned()
}

fn raw(state: &State, frame: &mut Frame<'_>, body: Rect, text: &str, scroll: usize) {
    let theme = state.theme;
    let columns = usize::from(body.width).saturating_sub(4);
    let area = window(state, frame, body, "JSON", (columns, usize::from(body.height)));
    let out: Vec<Line<'static>> = lines(text, columns, 10_000, theme.unicode)
        .iter()
        .map(|line| Line::from(span(theme, line, Tone::Plain)))
        .collect();
    scrolled(frame, area, &out, scroll);
}
