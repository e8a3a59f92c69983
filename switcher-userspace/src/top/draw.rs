//! A frame: a pure function of what is known and of how much room there is.

use jiff::Timestamp;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Widget};

use super::dialog::{Dialog, Tone};
use super::facts::{self, Fact, Weight};
use super::model::Top;
use super::series::Series;
use super::text::{bar, cut, rate, seconds, until, wrap};
use crate::api::model::{ColourStatus, GroupStatus};
use crate::journal::CutoverRecord;
use crate::output::human_count;

/// Groups that are listed at once.
const GROUPS: usize = 8;
/// Cut-overs that there is always room for, should there be any.
const CUTOVERS: usize = 3;
/// Rows that the bars of a colour have at most.
const BARS: usize = 5;
/// Columns of a fact's label.
const LABEL: usize = 10;
/// What keys there are.
const KEYS: &str = " f flip  r rollback  c confirm  a abort  ↑↓ group  ? help  q quit";

/// How things look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Colours are wanted. Without them words say the same.
    pub colour: bool,
}

/// Draws everything.
pub fn draw(top: &Top, look: Look, now: Timestamp, area: Rect, buffer: &mut Buffer) {
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    let lines = frame(top, look, now, width, height);
    for (line, y) in lines.iter().zip(area.top()..area.bottom()) {
        buffer.set_line(area.x, y, line, area.width);
    }
    if let Some(dialog) = &top.dialog {
        in_front(dialog, look, area, buffer);
    }
}

type Lines = Vec<Line<'static>>;

/// Exactly as many lines as there are rows.
fn frame(top: &Top, look: Look, now: Timestamp, width: usize, height: usize) -> Lines {
    let mut foot = message(top, look, width);
    foot.push(Line::styled(cut(KEYS, width), look.faint()));
    let mut lines = vec![title(top, look, now, width)];
    lines.extend(troubles(top, look, width));
    lines.extend(groups(top, look, now, width));
    if let Some(group) = top.group() {
        let room = height.saturating_sub(lines.len() + foot.len());
        lines.extend(detail(top, group, look, now, (width, room)));
    } else if top.last.is_some() {
        lines.push(Line::raw("  no groups are configured"));
    }
    // Whatever has no room, the keys have.
    lines.resize_with(height.saturating_sub(foot.len()), Line::default);
    lines.extend(foot);
    lines
}

fn title(top: &Top, look: Look, now: Timestamp, width: usize) -> Line<'static> {
    let left = match &top.last {
        None => " switcher".to_owned(),
        Some(last) => {
            let status = &last.status;
            let interfaces = status.interfaces.iter();
            let interfaces = interfaces.map(|it| format!("{} {}", it.name, it.xdp));
            let interfaces: Vec<_> = interfaces.collect();
            let up = seconds(now.duration_since(status.agent.started_at));
            format!(
                " switcher {}  {}  up {up}",
                status.agent.version,
                interfaces.join(", ")
            )
        }
    };
    let right = format!("{} UTC ", now.strftime("%H:%M:%S"));
    let room = width.saturating_sub(right.len() + 1);
    let text = format!("{:<room$} {right}", cut(&left, room));
    Line::styled(text, look.title())
}

fn troubles(top: &Top, look: Look, width: usize) -> Lines {
    let lost = top.trouble.iter().map(|failure| {
        let since = match top.last.is_some() {
            true => "what is below is old; asking again",
            false => "asking again",
        };
        format!("{failure}\n{since} …")
    });
    let known = top.last.iter().flat_map(|it| facts::troubles(&it.status));
    let all: Vec<String> = lost.chain(known).collect();
    let lines = all.iter().flat_map(|it| it.lines());
    lines
        .flat_map(|line| wrap(&format!("! {line}"), width, 2))
        .map(|line| Line::styled(line, look.bad()))
        .collect()
}

fn message(top: &Top, look: Look, width: usize) -> Lines {
    let (text, style) = match &top.said {
        None => return Vec::new(),
        Some(Ok(said)) => (said, look.good()),
        Some(Err(said)) => (said, look.bad()),
    };
    let lines = text.lines().flat_map(|line| wrap(line, width, 2));
    lines
        .take(3)
        .map(|line| Line::styled(line, style))
        .collect()
}

fn groups(top: &Top, look: Look, now: Timestamp, width: usize) -> Lines {
    let all = top.groups();
    let longest = |of: fn(&GroupStatus) -> usize, least: usize| {
        all.iter().map(of).max().unwrap_or(0).clamp(least, 20) + 2
    };
    let name = longest(|it| it.name.chars().count(), 5);
    let live = longest(|it| it.live.chars().count(), 5);
    let phase = longest(|it| it.phase.chars().count(), 5);
    let mut lines = Vec::new();
    if all.is_empty() {
        return lines;
    }
    let header = format!(
        "  {:<name$}{:<live$}{:<phase$}{:>10}{:>8}  {}",
        "GROUP", "LIVE", "PHASE", "PACKETS/S", "CONN/S", "NEXT"
    );
    lines.push(Line::styled(header, look.faint()));
    let first = top.at().unwrap_or(0).saturating_sub(GROUPS - 1);
    for group in all.iter().skip(first).take(GROUPS) {
        let selected = top.selected.as_ref() == Some(&group.name);
        let calm = match group.phase == "idle" {
            true => Style::default(),
            false => look.warning(),
        };
        let sum = |of: fn(&(Series, Series)) -> &Series| {
            let colours = group.colours.keys();
            let rates = colours.filter_map(|it| of(top.series(&group.name, it)?).now());
            rates.reduce(|sum, more| sum + more)
        };
        let next = group.next.as_ref();
        let next = next.map(|it| format!("{}: {}", until(now, it.at), it.what));
        let before = 2 + name + live + phase + 20;
        lines.push(Line::from(vec![
            Span::styled(if selected { "> " } else { "  " }, look.strong()),
            Span::styled(
                format!("{:<name$}", cut(&group.name, name - 2)),
                look.strong(),
            ),
            Span::styled(
                format!("{:<live$}", cut(&group.live, live - 2)),
                look.of(&group.live),
            ),
            Span::styled(format!("{:<phase$}", cut(&group.phase, phase - 2)), calm),
            Span::raw(format!("{:>10}", rate(sum(|it| &it.0)))),
            Span::raw(format!("{:>8}  ", rate(sum(|it| &it.1)))),
            Span::raw(cut(&next.unwrap_or_default(), width.saturating_sub(before))),
        ]));
    }
    let hidden = all.len().saturating_sub(GROUPS);
    if hidden > 0 {
        let text = format!("  and {hidden} more");
        lines.push(Line::styled(text, look.faint()));
    }
    lines
}

/// Of one group: its colours' bars get what room is left, within reason.
fn detail(
    top: &Top,
    group: &GroupStatus,
    look: Look,
    now: Timestamp,
    (width, room): (usize, usize),
) -> Lines {
    let since = seconds(now.duration_since(group.since));
    let head = format!(
        "  {}, revision {}: {} since {since}, by {}",
        group.name, group.revision, group.live, group.by
    );
    let facts = facts::of_group(group, now);
    let facts: Lines = facts.iter().flat_map(|it| fact(it, look, width)).collect();
    let cutovers = cutovers(top, group, look, now, width);
    let colours = group.colours.len().max(1);
    // A line before each part, and headers.
    let fixed = 5 + facts.len() + cutovers.len().min(CUTOVERS + 1);
    let height = (room.saturating_sub(fixed) / colours).clamp(1, BARS);
    let mut lines = vec![
        Line::default(),
        Line::styled(cut(&head, width), look.strong()),
    ];
    lines.extend(bars(top, group, look, (width, height)));
    lines.push(Line::default());
    lines.extend(facts);
    lines.push(Line::default());
    lines.extend(cutovers);
    lines
}

fn fact(fact: &Fact, look: Look, width: usize) -> Lines {
    let style = match fact.weight {
        Weight::Plain => Style::default(),
        Weight::Coming => look.warning(),
        Weight::Bad => look.bad(),
    };
    let text = wrap(&fact.text, width.saturating_sub(LABEL + 2), 0);
    let labels = std::iter::once(fact.label).chain(std::iter::repeat(""));
    labels
        .zip(text)
        .map(|(label, text)| {
            Line::from(vec![
                Span::styled(format!("  {label:<LABEL$}"), look.faint()),
                Span::styled(text, style),
            ])
        })
        .collect()
}

/// How wide the columns of colours are.
struct Columns {
    name: usize,
    version: usize,
    /// Words stand one below the other, which leaves more room for bars.
    stacked: bool,
    /// Of all words.
    words: usize,
    /// Of each of the two kinds of bars.
    bars: usize,
}

const ROLE: usize = 10;
const HEALTHY: usize = 9;
const FLOWS: usize = 7;
const RATE: usize = 5;
/// Rows that words one below the other take.
const STACK: usize = 4;

impl Columns {
    fn new(group: &GroupStatus, (width, height): (usize, usize)) -> Self {
        let longest = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(0);
        let name = longest(&mut group.colours.keys().map(|it| it.chars().count()));
        let versions = group.colours.values().filter_map(|it| it.version.as_ref());
        let version = longest(&mut versions.map(|it| it.chars().count()));
        let (name, version) = (name.clamp(6, 14) + 2, version.clamp(7, 20) + 2);
        let stacked = height >= STACK;
        let words = match stacked {
            true => name + ROLE,
            false => name + ROLE + version + HEALTHY + FLOWS,
        };
        Self {
            name,
            version,
            stacked,
            words,
            bars: (width.saturating_sub(2 + words + 2 * (RATE + 1) + 2) / 2).max(4),
        }
    }

    fn header(&self) -> String {
        let Self {
            name,
            version,
            stacked,
            words,
            bars,
        } = *self;
        let said = match stacked {
            true => "COLOUR".to_owned(),
            false => format!(
                "{:<name$}{:<ROLE$}{:<version$}{:<HEALTHY$}{:<FLOWS$}",
                "COLOUR", "ROLE", "VERSION", "HEALTHY", "FLOWS"
            ),
        };
        let wide = RATE + 1 + bars + 2;
        format!("  {said:<words$}{:<wide$}{}", "PACKETS/S", "CONNECTIONS/S")
    }
}

fn bars(top: &Top, group: &GroupStatus, look: Look, (width, height): (usize, usize)) -> Lines {
    let columns = Columns::new(group, (width, height));
    let bars = columns.bars;
    let mut lines = vec![Line::styled(columns.header(), look.faint())];
    // Colours are compared with each other: one scale for all.
    let largest = |of: fn(&(Series, Series)) -> &Series| {
        let series = group.colours.keys();
        let series = series.filter_map(|it| Some(of(top.series(&group.name, it)?)));
        series.flat_map(|it| it.newest(bars)).fold(0.0, f64::max)
    };
    let scale = (largest(|it| &it.0), largest(|it| &it.1));
    let mut colours: Vec<_> = group.colours.iter().collect();
    colours.sort_by_key(|(_, colour)| match &*colour.role {
        "live" => 0,
        "previous" => 1,
        "staging" => 2,
        _ => 3,
    });
    let height = u16::try_from(height).unwrap_or(1);
    for (colour, status) in colours {
        let series = top.series(&group.name, colour);
        let words = words(colour, status, &columns, look);
        // Words of one line stand beside the foot of the bars.
        let above = usize::from(height).saturating_sub(words.len());
        let above = if columns.stacked { 0 } else { above };
        let empty = || vec![Span::raw(" ".repeat(2 + columns.words))];
        let words = std::iter::repeat_with(empty).take(above).chain(words);
        let words = words.chain(std::iter::repeat_with(empty));
        for (row, mut line) in (0..height).rev().zip(words) {
            let of = |series: Option<&Series>, scale: f64| {
                let said = match row {
                    0 => rate(series.and_then(Series::now)),
                    _ => String::new(),
                };
                let seen = series.into_iter().flat_map(|it| it.newest(bars));
                let cells: String = seen.map(|it| bar(it, scale, height, row)).collect();
                [
                    Span::raw(format!("{said:>RATE$} ")),
                    Span::styled(format!("{cells:>bars$}"), look.of(colour)),
                    Span::raw("  "),
                ]
            };
            line.extend(of(series.map(|it| &it.0), scale.0));
            line.extend(of(series.map(|it| &it.1), scale.1));
            lines.push(Line::from(line));
        }
    }
    lines
}

/// What is said of a colour, as wide as its column: one line, or four.
fn words(
    name: &str,
    colour: &ColourStatus,
    columns: &Columns,
    look: Look,
) -> Vec<Vec<Span<'static>>> {
    let all = colour.endpoints.len();
    let healthy = colour.endpoints.iter();
    let healthy = healthy.filter(|it| it.healthy == Some(true)).count();
    let health = match colour.healthy {
        Some(true) => look.good(),
        Some(false) => look.bad(),
        None => look.warning(),
    };
    let role = match &*colour.role {
        "live" => look.strong(),
        _ => Style::default(),
    };
    let flows = colour.flows.map_or_else(|| "?".to_owned(), human_count);
    let version = colour.version.as_deref();
    let wide = columns.name;
    let mut first = vec![
        Span::raw("  "),
        Span::styled(format!("{:<wide$}", cut(name, wide - 2)), look.of(name)),
        Span::styled(format!("{:<ROLE$}", colour.role), role),
    ];
    if columns.stacked {
        let wide = columns.words - 2;
        let line = |text: String, style| {
            vec![
                Span::raw("    "),
                Span::styled(format!("{:<wide$}", cut(&text, wide)), style),
            ]
        };
        let plain = Style::default();
        return vec![
            first,
            line(version.unwrap_or_default().to_owned(), plain),
            line(format!("{healthy}/{all} healthy"), health),
            line(format!("{flows} flows"), plain),
        ];
    }
    let wide = columns.version;
    let version = cut(version.unwrap_or("-"), wide - 2);
    first.extend([
        Span::raw(format!("{version:<wide$}")),
        Span::styled(format!("{:<HEALTHY$}", format!("{healthy}/{all}")), health),
        Span::raw(format!("{flows:<FLOWS$}")),
    ]);
    vec![first]
}

fn cutovers(top: &Top, group: &GroupStatus, look: Look, now: Timestamp, width: usize) -> Lines {
    let all = top.last.iter().flat_map(|it| &it.cutovers);
    let ours = all.filter(|it| it.group == group.name);
    let lines: Lines = ours.map(|it| cutover(it, look, now, width)).collect();
    match lines.is_empty() {
        true => lines,
        false => {
            let header = "  WHEN        WHAT       FROM TO           RESULT       BY, WHY";
            let header = Line::styled(header, look.faint());
            std::iter::once(header).chain(lines).collect()
        }
    }
}

fn cutover(record: &CutoverRecord, look: Look, now: Timestamp, width: usize) -> Line<'static> {
    let when = format!("{} ago", seconds(now.duration_since(record.started)));
    let kind = match record.percent {
        Some(percent) => format!("{} {percent} %", record.kind.name()),
        None => record.kind.name().to_owned(),
    };
    let result = record.result.map_or("under way", |it| it.name());
    let style = match result {
        "switched" | "succeeded" => look.good(),
        "rolled-back" | "failed" => look.bad(),
        _ => look.warning(),
    };
    let who = record.actor.split(" (").next().unwrap_or_default();
    let why = record.reason.as_ref().map(|it| format!(": {it}"));
    let why = format!("{who}{}", why.unwrap_or_default());
    let (from, to) = (&record.from, &record.to);
    let gap = 18usize.saturating_sub(from.chars().count() + to.chars().count() + 3);
    Line::from(vec![
        Span::raw(format!("  {when:<12}{:<11}", cut(&kind, 10))),
        Span::styled(from.clone(), look.of(from)),
        Span::raw(" → "),
        Span::styled(to.clone(), look.of(to)),
        Span::raw(" ".repeat(gap)),
        Span::styled(format!("{result:<13}"), style),
        Span::raw(cut(&why, width.saturating_sub(56))),
    ])
}

fn in_front(dialog: &Dialog, look: Look, area: Rect, buffer: &mut Buffer) {
    let width = area.width.saturating_sub(4).min(72);
    let inner = usize::from(width.saturating_sub(4));
    let lines = dialog.lines();
    let lines = lines.iter().flat_map(|(tone, line)| {
        let hang = line.len()
            - line
                .trim_start_matches(|it| " -.0123456789".contains(it))
                .len();
        wrap(line, inner, hang).into_iter().map(|it| (*tone, it))
    });
    let mut lines: Vec<_> = lines.collect();
    let room = usize::from(area.height.saturating_sub(4)).max(1);
    if lines.len() > room {
        // The keys stay.
        lines.drain(room - 1..lines.len() - 1);
    }
    let height = u16::try_from(lines.len()).unwrap_or(1) + 2;
    let place = Rect {
        x: area.x + (area.width.saturating_sub(width)) / 2,
        y: area.y + (area.height.saturating_sub(height)) / 2,
        width,
        height,
    }
    .intersection(area);
    Clear.render(place, buffer);
    Block::bordered()
        .title(format!(" {} ", dialog.title()))
        .border_style(look.strong())
        .render(place, buffer);
    let rows = place.top() + 1..place.bottom().saturating_sub(1);
    for ((tone, line), y) in lines.into_iter().zip(rows) {
        let style = match tone {
            Tone::Plain => Style::default(),
            Tone::Bad => look.bad(),
            Tone::Keys => look.strong(),
        };
        buffer.set_stringn(place.x + 2, y, line, inner, style);
    }
}

impl Look {
    fn tinted(self, colour: Color) -> Style {
        match self.colour {
            true => Style::default().fg(colour),
            false => Style::default(),
        }
    }

    fn good(self) -> Style {
        self.tinted(Color::Green)
    }

    fn warning(self) -> Style {
        self.tinted(Color::Yellow)
    }

    fn bad(self) -> Style {
        self.tinted(Color::LightRed)
    }

    fn strong(self) -> Style {
        Style::default().add_modifier(Modifier::BOLD)
    }

    fn faint(self) -> Style {
        Style::default().add_modifier(Modifier::DIM)
    }

    fn title(self) -> Style {
        Style::default().add_modifier(Modifier::REVERSED)
    }

    /// A colour of a group: the terminal's own of that name, else always the same one.
    fn of(self, name: &str) -> Style {
        const OTHERS: [Color; 3] = [Color::LightCyan, Color::LightMagenta, Color::LightYellow];
        let sum: usize = name.bytes().map(usize::from).sum();
        self.tinted(match name {
            "blue" => Color::LightBlue,
            "green" => Color::LightGreen,
            "red" => Color::LightRed,
            "yellow" => Color::LightYellow,
            "cyan" => Color::LightCyan,
            "magenta" | "purple" | "pink" => Color::LightMagenta,
            _ => OTHERS[sum % OTHERS.len()],
        })
    }
}
