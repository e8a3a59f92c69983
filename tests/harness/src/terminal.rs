//! A terminal for programs that want one: what they have drawn, and keys for them.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::pty::{Winsize, openpty};

use crate::process;

/// How long anything may take. The machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program at a terminal of its own; ended on drop.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    keys: File,
    drawn: Arc<Mutex<Vec<u8>>>,
    size: (u16, u16),
}

impl Terminal {
    /// Starts a command at a terminal of so many columns and rows.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(mut command: Command, (columns, rows): (u16, u16)) -> Result<Self> {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(&size, None).context("a terminal")?;
        let slave = pty.slave;
        let child = command
            .env("TERM", "xterm-256color")
            .stdin(slave.try_clone()?)
            .stdout(slave.try_clone()?)
            .stderr(slave)
            .spawn()
            .context("starting a program at a terminal")?;
        // Else its ends of the terminal would be ours, too, and never be closed.
        drop(command);
        let keys = File::from(pty.master);
        let mut written = keys.try_clone()?;
        let drawn = Arc::<Mutex<Vec<u8>>>::default();
        let seen = Arc::clone(&drawn);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = written.read(&mut buffer) {
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.extend_from_slice(&buffer[..length]);
            }
        });
        Ok(Self {
            child,
            keys,
            drawn,
            size: (columns, rows),
        })
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Types.
    ///
    /// # Errors
    /// When the program has gone.
    pub fn press(&mut self, keys: &str) -> Result<()> {
        self.keys.write_all(keys.as_bytes()).context("typing")
    }

    /// Everything that was written so far, with all that makes it look some way.
    #[must_use]
    pub fn raw(&self) -> String {
        let drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&drawn).into_owned()
    }

    /// What is to be seen.
    #[must_use]
    pub fn screen(&self) -> String {
        render(&self.raw(), self.size)
    }

    /// Waits until something is to be seen.
    ///
    /// # Errors
    /// When it never is; with what is.
    pub fn until(&self, text: &str) -> Result<String> {
        self.wait(|screen| screen.contains(text), text)
    }

    /// Waits until something is to be seen no more.
    ///
    /// # Errors
    /// When it stays.
    pub fn until_gone(&self, text: &str) -> Result<String> {
        self.wait(|screen| !screen.contains(text), text)
    }

    fn wait(&self, met: impl Fn(&str) -> bool, text: &str) -> Result<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let screen = self.screen();
            if met(&screen) {
                return Ok(screen);
            }
            if Instant::now() > deadline {
                bail!("waited for {text:?} in vain:\n{screen}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the program has ended.
    ///
    /// # Errors
    /// When it goes on.
    pub fn ended(&mut self) -> Result<ExitStatus> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                // What it wrote last is on its way.
                std::thread::sleep(Duration::from_millis(50));
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("it goes on:\n{}", self.screen())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        process::end(&mut self.child);
    }
}

/// Knows where the cursor is sent and what is cleared; that will do for full-screen programs.
fn render(raw: &str, (columns, rows): (u16, u16)) -> String {
    let (columns, rows) = (usize::from(columns), usize::from(rows));
    let mut cells = vec![vec![' '; columns]; rows];
    let (mut row, mut column) = (0, 0);
    let mut rest = raw.chars().peekable();
    while let Some(letter) = rest.next() {
        match letter {
            '\x1b' if rest.next_if_eq(&'[').is_some() => {
                let mut parameters = String::new();
                let end = loop {
                    match rest.next() {
                        Some(it) if it.is_ascii_digit() || ";?:<=>".contains(it) => {
                            parameters.push(it);
                        }
                        other => break other,
                    }
                };
                let numbers: Vec<usize> = parameters
                    .split(';')
                    .map(|it| it.parse().unwrap_or(1))
                    .collect();
                match end {
                    Some('H') => {
                        row = numbers.first().map_or(0, |it| it.saturating_sub(1));
                        column = numbers.get(1).map_or(0, |it| it.saturating_sub(1));
                    }
                    Some('J') => cells = vec![vec![' '; columns]; rows],
                    Some('K') => {
                        let line = cells.get_mut(row).into_iter().flatten();
                        line.skip(column).for_each(|cell| *cell = ' ');
                    }
                    _ => {}
                }
            }
            '\x1b' => {}
            '\r' => column = 0,
            '\n' => row += 1,
            letter => {
                if let Some(cell) = cells.get_mut(row).and_then(|it| it.get_mut(column)) {
                    *cell = letter;
                }
                column += 1;
            }
        }
    }
    let lines = cells.into_iter().map(String::from_iter);
    lines
        .map(|line| line.trim_end().to_owned() + "\n")
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_over_is_gone() {
        let raw = "\x1b[?1049h\x1b[2J\x1b[1;1Hhello\x1b[2;3H\x1b[38;5;12mx\x1b[0m\x1b[1;2Ha";
        assert_eq!(render(raw, (6, 2)), "hallo\n  x\n");
    }
}
