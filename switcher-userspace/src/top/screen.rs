//! Between a terminal and the agent.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use jiff::Timestamp;
use ratatui::buffer::{Buffer, Cell};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::Rect;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{Ask, Change, Key, Look, Sample, Top, draw};
use crate::api::model::{ChangeAnswer, ChangeRequest, History, Status};
use crate::client::{Client, encode};
use crate::exit::{Exit, Failure};

/// Cut-overs that are asked for.
const LATEST: usize = 50;
/// A frame's size where there is no terminal to ask.
const USUAL: (u16, u16) = (80, 24);

/// What comes in.
enum Input {
    Key(Key),
    /// The terminal has another size.
    Resized,
    Sampled(Result<Sample, Failure>),
    Foreseen(Change, Result<ChangeAnswer, Failure>),
    Made(Change, Result<ChangeAnswer, Failure>),
    Ended,
}

/// Shows everything until somebody has seen enough.
///
/// # Errors
/// When this is no terminal, or it can't be read or written. An agent that is away is shown, and asked again.
pub async fn watch(
    client: Client,
    look: Look,
    every: Duration,
    said: fn(&Change, &ChangeAnswer) -> String,
) -> Result<Exit, Failure> {
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        let why = "standard input and output are no terminal";
        return Err(Failure::new(Exit::Usage, "top", why)
            .advise("use `top --snapshot` for one frame as text, or `status -o json`"));
    }
    let signals = Signals::listen()?;
    let (sender, inputs) = unbounded_channel();
    let mut terminal = ratatui::try_init().context("prepare the terminal")?;
    let keys = sender.clone();
    std::thread::spawn(move || read_keys(&keys));
    tokio::spawn(sampling(client.clone(), every, sender.clone()));
    let mut screen = Screen {
        top: Top::default(),
        client,
        sender,
        said,
    };
    let shown = screen.show(&mut terminal, look, inputs, signals).await;
    // Its cursor is shown again as it goes, and the rest by this.
    drop(terminal);
    ratatui::restore();
    shown?;
    Ok(Exit::Done)
}

/// One frame, as text, after two looks at the agent.
///
/// # Errors
/// When the agent can't be asked.
pub async fn snapshot(
    client: &Client,
    every: Duration,
    (width, height): (Option<u16>, Option<u16>),
) -> Result<String, Failure> {
    let mut top = Top::default();
    let since = Instant::now();
    top.take(sample(client, since).await?);
    tokio::time::sleep(every).await;
    top.take(sample(client, since).await?);
    let here = match std::io::stdout().is_terminal() {
        true => ratatui::crossterm::terminal::size().unwrap_or(USUAL),
        false => USUAL,
    };
    let area = Rect::new(0, 0, width.unwrap_or(here.0), height.unwrap_or(here.1));
    let mut buffer = Buffer::empty(area);
    draw(
        &top,
        Look { colour: false },
        Timestamp::now(),
        area,
        &mut buffer,
    );
    Ok(text(&buffer))
}

/// What a buffer says, without how it looks.
pub(super) fn text(buffer: &Buffer) -> String {
    let rows = buffer
        .content()
        .chunks(usize::from(buffer.area.width).max(1));
    let rows = rows.map(|row| {
        let row: String = row.iter().map(Cell::symbol).collect();
        row.trim_end().to_owned() + "\n"
    });
    rows.collect()
}

struct Screen {
    top: Top,
    client: Client,
    sender: UnboundedSender<Input>,
    said: fn(&Change, &ChangeAnswer) -> String,
}

impl Screen {
    async fn show(
        &mut self,
        terminal: &mut ratatui::DefaultTerminal,
        look: Look,
        mut inputs: UnboundedReceiver<Input>,
        mut signals: Signals,
    ) -> anyhow::Result<()> {
        loop {
            let frame = |frame: &mut ratatui::Frame<'_>| {
                let area = frame.area();
                draw(&self.top, look, Timestamp::now(), area, frame.buffer_mut());
            };
            terminal.draw(frame).context("write to the terminal")?;
            let input = tokio::select! {
                input = inputs.recv() => input.unwrap_or(Input::Ended),
                () = signals.any() => Input::Ended,
            };
            let ask = match input {
                Input::Ended => return Ok(()),
                Input::Resized => None,
                Input::Key(key) => self.top.press(key),
                Input::Sampled(Ok(sample)) => {
                    self.top.take(sample);
                    None
                }
                Input::Sampled(Err(failure)) => {
                    self.top.lose(failure);
                    None
                }
                Input::Foreseen(change, answer) => {
                    self.top.foreseen(&change, answer);
                    None
                }
                Input::Made(change, answer) => {
                    let line = answer.map(|answer| (self.said)(&change, &answer));
                    self.top.made(&change, line);
                    None
                }
            };
            match ask {
                None => {}
                Some(Ask::Quit) => return Ok(()),
                Some(Ask::Foresee(change)) => self.ask(change, true),
                Some(Ask::Make(change)) => self.ask(change, false),
            }
        }
    }

    fn ask(&self, change: Change, dry_run: bool) {
        let (client, sender) = (self.client.clone(), self.sender.clone());
        tokio::spawn(async move {
            let Change {
                verb,
                group,
                revision,
            } = &change;
            let path = format!("/v1/groups/{}/{}", encode(group), verb.name());
            let request = ChangeRequest {
                dry_run,
                if_revision: Some(*revision),
                reason: Some("by switcher top".to_owned()).filter(|_| !dry_run),
                ..ChangeRequest::default()
            };
            let answer = client.post(&path, &request).await;
            let _gone = sender.send(match dry_run {
                true => Input::Foreseen(change, answer),
                false => Input::Made(change, answer),
            });
        });
    }
}

async fn sampling(client: Client, every: Duration, sender: UnboundedSender<Input>) {
    let since = Instant::now();
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if sender
            .send(Input::Sampled(sample(&client, since).await))
            .is_err()
        {
            return;
        }
    }
}

async fn sample(client: &Client, since: Instant) -> Result<Sample, Failure> {
    let status: Status = client.get("/v1/status").await?;
    let at = since.elapsed();
    let history: History = client.get(&format!("/v1/history?limit={LATEST}")).await?;
    Ok(Sample {
        at,
        wall: Timestamp::now(),
        status,
        cutovers: history.cutovers,
    })
}

/// Reads the terminal until it is gone; the process ends without waiting for this.
fn read_keys(sender: &UnboundedSender<Input>) {
    loop {
        let input = match event::read() {
            Err(_) => Input::Ended,
            Ok(Event::Resize(..)) => Input::Resized,
            Ok(Event::Key(key)) if key.kind == KeyEventKind::Release => continue,
            Ok(Event::Key(key)) => match key.code {
                KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Input::Ended,
                KeyCode::Char(letter) => Input::Key(Key::Char(letter)),
                KeyCode::Up => Input::Key(Key::Up),
                KeyCode::Down => Input::Key(Key::Down),
                KeyCode::Esc => Input::Key(Key::Escape),
                _ => continue,
            },
            Ok(_) => continue,
        };
        let ended = matches!(input, Input::Ended);
        if sender.send(input).is_err() || ended {
            return;
        }
    }
}

/// Signals that would end the process and leave the terminal as it is.
struct Signals([Signal; 4]);

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let kinds = [
            SignalKind::terminate(),
            SignalKind::interrupt(),
            SignalKind::hangup(),
            SignalKind::quit(),
        ];
        let [a, b, c, d] = kinds.map(signal);
        Ok(Self([a?, b?, c?, d?]))
    }

    async fn any(&mut self) {
        let [a, b, c, d] = &mut self.0;
        tokio::select! {
            _ = a.recv() => {}
            _ = b.recv() => {}
            _ = c.recv() => {}
            _ = d.recv() => {}
        }
    }
}
