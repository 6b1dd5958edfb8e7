//! Where things are on the screen, for those who draw and for those who count rows or ask what the
//! mouse has hit. Knows sizes, not contents.

use ratatui::layout::Rect;

use super::state::State;
use super::views::View;

/// A smaller screen shows what it needs instead.
pub const LEAST: (u16, u16) = (60, 12);
/// From so many columns on, a list of jobs shows the selected one beside it.
pub const DETAIL_FROM: u16 = 120;
/// What the overview shows above its list of queues: two lines of rates and a rule.
pub const RATES: u16 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub header: Rect,
    pub tabs: Rect,
    pub rule: Rect,
    /// All between the rules.
    pub body: Rect,
    /// Tabs within the page; of no height if it has none.
    pub page_tabs: Rect,
    /// The titles of the columns.
    pub titles: Rect,
    /// The rows of the list.
    pub list: Rect,
    /// What is beside it.
    pub detail: Option<Rect>,
    /// What is below it.
    pub below: Option<Rect>,
    pub footer_rule: Rect,
    pub footer: Rect,
    pub flash: Rect,
}

fn rows(area: Rect, from: u16, height: u16) -> Rect {
    let from = from.min(area.height);
    Rect { y: area.y + from, height: height.min(area.height - from), ..area }
}

pub fn is_too_small(size: (u16, u16)) -> bool {
    size.0 < LEAST.0 || size.1 < LEAST.1
}

/// The layout of the page that is shown. On a screen that is too small every part is empty.
pub fn of(state: &State) -> Layout {
    let size = if is_too_small(state.size) { (0, 0) } else { state.size };
    let screen = Rect::new(0, 0, size.0, size.1);
    let last = size.1;
    let body = rows(screen, 3, last.saturating_sub(6));
    let page = state.page();
    // A run says in two lines what it is.
    let head = if page.view == View::Run { 2 } else { u16::from(!page.tabs().is_empty()) };
    let page_tabs = rows(body, 0, head);
    let inner = rows(body, head, body.height);
    let is_wide = page.view == View::Run || page.wide.is_some();
    let (inner, detail) = if is_wide { (inner, None) } else { beside(page.view, inner) };
    let (mut above, below) = match page.view {
        // A third of the overview is for the queues, or less if there are few.
        View::Overview => {
            let room = inner.height.saturating_sub(RATES);
            let wanted = u16::try_from(page.scrolled()).unwrap_or(u16::MAX).saturating_add(1);
            let height = wanted.clamp(2, (room / 2).max(2));
            (rows(inner, RATES, height), Some(rows(inner, RATES + height, inner.height)))
        }
        // The graph gets what it needs, and leaves the log a third.
        View::Run => {
            let wanted = u16::try_from(page.tree.len().max(1)).unwrap_or(u16::MAX).saturating_add(1);
            let height = wanted.min(inner.height - (inner.height / 3).max(inner.height.min(4)));
            (rows(inner, 0, height), Some(rows(inner, height, inner.height)))
        }
        _ => (inner, None),
    };
    let mut detail = detail;
    if page.view == View::Run {
        (above, detail) = beside(page.view, above);
    }
    Layout {
        header: rows(screen, 0, 1),
        tabs: rows(screen, 1, 1),
        rule: rows(screen, 2, 1),
        body,
        page_tabs,
        titles: rows(above, 0, 1),
        list: rows(above, 1, above.height),
        detail,
        below,
        footer_rule: rows(screen, last.saturating_sub(3), 1),
        footer: rows(screen, last.saturating_sub(2), 1),
        flash: rows(screen, last.saturating_sub(1), 1),
    }
}

/// A name on the second line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tab {
    pub view: View,
    /// Where it begins.
    pub x: u16,
    pub text: String,
}

/// How close the names stand and how short they are cut, the first that fits.
const CLOSER: [(usize, usize); 6] = [(2, usize::MAX), (1, usize::MAX), (1, 6), (1, 5), (1, 4), (1, 3)];

/// The names on the second line, in so many columns. The one that is shown is never cut.
pub fn tabs(state: &State) -> Vec<Tab> {
    let columns = usize::from(state.size.0).saturating_sub(state.note().len());
    let views: Vec<View> = View::TABS.iter().copied().filter(|view| view.is_there(state.about.sharded)).collect();
    let mut tabs = Vec::new();
    for (gap, cut) in CLOSER {
        let mut x = 1;
        tabs.clear();
        for view in &views {
            let title = view.title();
            let name = if *view == state.tab() { title } else { title.get(..cut).unwrap_or(title) };
            let text = format!("{}{name}", view.number().map_or(String::new(), |number| format!("{number} ")));
            let wide = text.len();
            tabs.push(Tab { view: *view, x: u16::try_from(x).unwrap_or(u16::MAX), text });
            x += wide + gap;
        }
        if x - gap <= columns {
            break;
        }
    }
    tabs
}

fn beside(view: View, area: Rect) -> (Rect, Option<Rect>) {
    let has_detail = matches!(view, View::Jobs | View::Run | View::Schedules | View::Dlq | View::Events | View::Shards);
    if !has_detail || area.width < DETAIL_FROM {
        return (area, None);
    }
    let detail = (area.width / 3).clamp(40, 70);
    let list = area.width - detail - 1;
    (Rect { width: list, ..area }, Some(Rect { x: area.x + list + 1, width: detail, ..area }))
}
