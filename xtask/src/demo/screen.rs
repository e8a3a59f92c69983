//! How the demo looks: bars of blue and green, one line a second.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::process::{Command, Stdio};

use switcher_harness::load::Second;
use switcher_harness::topology::COLOURS;
use switcher_harness::{Mode, Stand};

use super::stage;

/// The widest and narrowest line.
const COLUMNS: std::ops::RangeInclusive<usize> = 60..=120;
/// What a row has beside its two bars.
const ROW: usize = 53;

/// A terminal, or a file that someone reads later.
pub(super) struct Screen {
    coloured: bool,
    columns: usize,
}

/// Ways to write.
#[derive(Clone, Copy)]
pub(super) enum Style {
    Blue,
    Green,
    Red,
    Bold,
    Dim,
}

impl Screen {
    pub(super) fn new() -> Self {
        let terminal = std::io::stdout().is_terminal();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            coloured: terminal && !plain,
            columns: columns().clamp(*COLUMNS.start(), *COLUMNS.end()),
        }
    }

    /// `text`, styled if there are colours here.
    pub(super) fn paint(&self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Blue => "94",
            Style::Green => "32",
            Style::Red => "1;31",
            Style::Bold => "1",
            Style::Dim => "2",
        };
        if self.coloured && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// A colour's name in its colour.
    pub(super) fn colour(&self, name: &str) -> String {
        self.paint(style(name), name)
    }

    /// What is built, before anything moves.
    pub(super) fn scene(&self, stand: &Stand) {
        let title = match stand.topology.mode {
            Mode::Local => "local: both colours on the switching host",
            Mode::Routed => "routed: each colour on a host behind the switching host",
            Mode::Ipip => {
                "ipip: servers that get packets inside others, and answer clients directly"
            }
            Mode::Dsr => "dsr: servers beside the switching host, which answer clients directly",
            Mode::Masquerade => {
                "masquerade: each colour on a host that answers to the switching host"
            }
        };
        println!("\n{} {title}\n", self.paint(Style::Bold, "Switcher"));
        let services = format!("{}/tcp {}/udp", stand.topology.web(), stand.topology.echo());
        println!("  clients ──▶ {services} ──▶ XDP on eth0");
        for (endpoint, corner) in stand.topology.endpoints(1).iter().zip(["├", "└"]) {
            let version = if endpoint.colour == COLOURS[0] {
                "v1"
            } else {
                "v2"
            };
            let at = format!("{} and :{}", endpoint.web, endpoint.echo.port());
            println!(
                "  {:37}{corner}─▶ {} {version} {at}",
                "",
                self.pad_colour(endpoint.colour)
            );
        }
        println!(
            "\n  {}",
            self.paint(Style::Dim, &preparation(stand.topology.mode))
        );
    }

    /// The names of the columns of [`Screen::row`].
    pub(super) fn head(&self) {
        let bar = self.bar_width();
        let line = format!(
            "  time  {:bar$}  {:bar$}  {:>6} {:>6}  {:>6}",
            "new connections", "all answers", "blue", "green", "broken"
        );
        println!("{}", self.paint(Style::Dim, &line));
    }

    /// One second of traffic.
    pub(super) fn row(&self, second: usize, counts: &Second) {
        let of = |colour: &str| counts.all.get(colour).copied().unwrap_or_default();
        let broken = match counts.failures {
            0 => self.paint(Style::Dim, &format!("{:>6}", 0)),
            number => self.paint(Style::Red, &format!("{number:>6}")),
        };
        println!(
            "  {second:>2} s  {}  {}  {} {}  {broken}",
            self.bar(&counts.new),
            self.bar(&counts.all),
            self.paint(Style::Blue, &format!("{:>6}", of("blue"))),
            self.paint(Style::Green, &format!("{:>6}", of("green"))),
        );
    }

    /// A strip with one mark a second: the colour that new connections came to.
    pub(super) fn strip(&self, seconds: &[Second]) -> String {
        let marks = seconds.iter().map(|second| {
            let share = shares(&second.new, 2);
            self.blocks(share.0, share.1, 2)
        });
        marks.collect()
    }

    /// A command as typed, and what it said.
    pub(super) fn command(&self, words: &str, said: &str) {
        println!(
            "\n  {} {}",
            self.paint(Style::Dim, "$"),
            self.paint(Style::Bold, &format!("switcher {words}"))
        );
        for line in said.lines().filter(|line| !line.trim().is_empty()) {
            for part in fit(line, self.inner_columns()) {
                println!("    {part}");
            }
        }
    }

    /// The columns behind the margin of what a command says.
    fn inner_columns(&self) -> usize {
        self.columns - 4
    }

    fn bar(&self, counts: &BTreeMap<String, u64>) -> String {
        let width = self.bar_width();
        let (blue, green) = shares(counts, width);
        self.blocks(blue, green, width)
    }

    /// Without colours, the two are told apart by their shade.
    fn blocks(&self, blue: usize, green: usize, width: usize) -> String {
        let (dark, light) = if self.coloured {
            ("█", "█")
        } else {
            ("█", "░")
        };
        let (blue_part, green_part) = (dark.repeat(blue), light.repeat(green));
        let rest = " ".repeat(width.saturating_sub(blue + green));
        self.paint(Style::Blue, &blue_part) + &self.paint(Style::Green, &green_part) + &rest
    }

    fn pad_colour(&self, name: &str) -> String {
        self.paint(style(name), &format!("{name:5}"))
    }

    fn bar_width(&self) -> usize {
        (self.columns - ROW.min(self.columns)) / 2 + 8
    }
}

/// What a flip does before it switches.
fn preparation(mode: Mode) -> String {
    match mode {
        Mode::Local => {
            "The socket table knows whose every connection is: a flip prepares nothing.".to_owned()
        }
        Mode::Masquerade => {
            "Every flow is remembered from its first packet: a flip prepares nothing.".to_owned()
        }
        Mode::Routed | Mode::Dsr | Mode::Ipip => {
            format!(
                "A flip first watches for {:?} which connections are just being opened.",
                stage::ARM
            )
        }
    }
}

/// A line that is not too wide: a table's is cut, a sentence goes on below.
fn fit(line: &str, columns: usize) -> Vec<String> {
    if line.chars().count() <= columns || line.contains('\x1b') {
        return vec![line.to_owned()];
    }
    if line.trim_start().contains("  ") {
        let kept: String = line.chars().take(columns - 1).collect();
        return vec![format!("{}…", kept.trim_end())];
    }
    let indent = " ".repeat(line.len() - line.trim_start().len());
    let mut lines = vec![indent.clone()];
    for word in line.split_whitespace() {
        let last = lines.last().map_or(0, |last| last.chars().count());
        if last + 1 + word.chars().count() > columns {
            lines.push(format!("{indent} "));
        }
        if let Some(last) = lines.last_mut() {
            let gap = if last.trim().is_empty() { "" } else { " " };
            last.push_str(gap);
            last.push_str(word);
        }
    }
    lines
}

fn style(colour: &str) -> Style {
    if colour == COLOURS[0] {
        Style::Blue
    } else {
        Style::Green
    }
}

/// `width` divided between the two colours. A colour that answered at all is seen.
fn shares(counts: &BTreeMap<String, u64>, width: usize) -> (usize, usize) {
    let of = |colour: &str| counts.get(colour).copied().unwrap_or_default() as usize;
    let (blue, green) = (of(COLOURS[0]), of(COLOURS[1]));
    if blue + green == 0 {
        return (0, 0);
    }
    let share = (blue * width + (blue + green) / 2) / (blue + green);
    let least = usize::from(blue > 0);
    let most = width - usize::from(green > 0);
    let share = share.clamp(least, most);
    (share, width - share)
}

/// The terminal's width; 80 where there is none.
fn columns() -> usize {
    let size = Command::new("stty")
        .arg("size")
        .stdin(Stdio::inherit())
        .stderr(Stdio::null())
        .output();
    let said = size
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    said.split_whitespace()
        .nth(1)
        .and_then(|columns| columns.parse().ok())
        .unwrap_or(80)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(blue: u64, green: u64) -> BTreeMap<String, u64> {
        BTreeMap::from([("blue".to_owned(), blue), ("green".to_owned(), green)])
    }

    #[test]
    fn a_bar_is_shared_and_shows_the_smallest_part() {
        assert_eq!(shares(&counts(1, 1), 10), (5, 5));
        assert_eq!(shares(&counts(9, 0), 10), (10, 0));
        assert_eq!(shares(&counts(1, 10_000), 10), (1, 9));
        assert_eq!(shares(&counts(10_000, 1), 10), (9, 1));
        assert_eq!(shares(&counts(0, 0), 10), (0, 0));
    }

    #[test]
    fn sentences_wrap_and_tables_are_cut() {
        assert_eq!(fit("short", 20), ["short"]);
        assert_eq!(fit("  one two three", 12), ["  one two", "   three"]);
        assert_eq!(fit("NAME  LIVE  PHASE", 12), ["NAME  LIVE…"]);
    }

    #[test]
    fn rows_fit_the_terminal() {
        for columns in [60, 80, 120] {
            let screen = Screen {
                coloured: false,
                columns,
            };
            let row = 2 + 4 + 2 + screen.bar_width() * 2 + 2 + 2 + 13 + 2 + 6;
            assert!(row <= columns, "{row} > {columns}");
        }
    }
}
