//! A page, and what its reader does.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

/// A page of the documentation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Page {
    /// Its file.
    pub(crate) name: String,
    /// What its reader does, in this order.
    pub(crate) steps: Vec<Step>,
    /// Reasons of blocks that are not run.
    pub(crate) not_run: Vec<String>,
    /// All its blocks.
    pub(crate) blocks: Vec<Block>,
    /// Why it has no commands.
    pub(crate) silent: Option<String>,
    /// Its text by sections: each with its heading, and the line after that.
    sections: Vec<(String, usize, String)>,
}

/// A block, as it is written.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// Its lines.
    pub(crate) lines: Vec<String>,
    /// Why no test runs it.
    pub(crate) not_run: Option<String>,
    /// The test that takes it from the page.
    pub(crate) run_by: Option<String>,
    /// Where it begins.
    pub(crate) line: usize,
}

/// What a reader does.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Begins on hosts like these.
    Network { name: String, line: usize },
    /// Has a server that answers with a word: colour and address.
    Given {
        colour: String,
        address: String,
        line: usize,
    },
    /// Writes a file.
    File {
        path: String,
        text: String,
        line: usize,
    },
    /// Types a command.
    Command(Command),
}

/// A command, and what it says.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    /// Whose prompt is before it.
    pub(crate) host: String,
    /// Itself.
    pub(crate) text: String,
    /// The lines that follow; if there are none it may say anything.
    pub(crate) says: Vec<String>,
    /// How it ends.
    pub(crate) exit: i32,
    /// Where it is.
    pub(crate) line: usize,
}

impl Step {
    pub(crate) const fn line(&self) -> usize {
        match self {
            Self::Network { line, .. } | Self::Given { line, .. } | Self::File { line, .. } => {
                *line
            }
            Self::Command(command) => command.line,
        }
    }
}

impl Page {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Self::parse(&name, &text, 0)
    }

    /// One of its sections.
    pub(crate) fn section(&self, heading: &str) -> Result<Self> {
        let found = self.sections.iter().find(|(it, ..)| it == heading);
        let (_, line, text) = found.with_context(|| format!("{} has no {heading:?}", self.name))?;
        Self::parse(&self.name, text, *line)
    }

    fn parse(name: &str, text: &str, before: usize) -> Result<Self> {
        let mut page = Self {
            name: name.to_owned(),
            ..Self::default()
        };
        let mut skip: Option<String> = None;
        let mut run_by: Option<String> = None;
        let mut lines = (before + 1..).zip(text.lines());
        while let Some((line, text)) = lines.next() {
            if let Some((kind, said)) = comment(text) {
                match kind {
                    "network" => page.steps.push(Step::Network {
                        name: said.to_owned(),
                        line,
                    }),
                    "given" => page.steps.extend(given(said, line)?),
                    "not run" => skip = Some(said.to_owned()),
                    "run by" => run_by = Some(said.to_owned()),
                    "nothing to run" => page.silent = Some(said.to_owned()),
                    _ => {}
                }
            } else if let Some(language) = text.strip_prefix("```") {
                let block: Vec<_> = lines.by_ref().take_while(|(_, it)| *it != "```").collect();
                let reason = skip.take();
                page.blocks.push(Block {
                    lines: block.iter().map(|(_, it)| (*it).to_owned()).collect(),
                    not_run: reason.clone(),
                    run_by: run_by.take(),
                    line,
                });
                match (language, reason) {
                    (_, Some(reason)) => page.not_run.push(reason),
                    ("console", None) => page.steps.extend(commands(&block)?),
                    (_, None) => page.steps.extend(file(&block)),
                }
                continue;
            } else if let Some(heading) = text.strip_prefix("## ") {
                page.sections
                    .push((heading.to_owned(), line, String::new()));
            }
            ensure!(
                (skip.is_none() && run_by.is_none())
                    || text.trim().is_empty()
                    || text.starts_with("<!--"),
                "{name}:{line}: `not run` and `run by` belong right before a block"
            );
        }
        // Sections are kept as they are written, blocks included.
        let starts: Vec<_> = page
            .sections
            .iter()
            .map(|(_, line, _)| *line - before)
            .collect();
        let ends = starts.iter().skip(1).map(|it| it - 1).chain([usize::MAX]);
        for ((section, start), end) in page.sections.iter_mut().zip(&starts).zip(ends) {
            let lines = text.lines().skip(*start).take(end.saturating_sub(*start));
            section.2 = lines.flat_map(|line| [line, "\n"]).collect();
        }
        Ok(page)
    }
}

/// `<!-- KIND: WHAT -->`.
fn comment(line: &str) -> Option<(&str, &str)> {
    let inside = line.strip_prefix("<!--")?.strip_suffix("-->")?;
    let (kind, said) = inside.split_once(':')?;
    Some((kind.trim(), said.trim()))
}

/// `blue at 203.0.113.10:8443, green at 203.0.113.10:9444`.
fn given(said: &str, line: usize) -> Result<Vec<Step>> {
    let server = |it: &str| {
        let (colour, address) = it.trim().split_once(" at ")?;
        let (colour, address) = (colour.to_owned(), address.to_owned());
        Some(Step::Given {
            colour,
            address,
            line,
        })
    };
    let servers: Option<Vec<_>> = said.split(',').map(server).collect();
    servers.with_context(|| format!("line {line}: {said:?} is no list of servers"))
}

/// A block whose first line, or second after `#!`, is a comment with an absolute path is that file.
fn file(block: &[(usize, &str)]) -> Option<Step> {
    let (line, _) = *block.first()?;
    let path = block
        .iter()
        .take(2)
        .find_map(|(_, it)| it.strip_prefix("# /"))?;
    let path = format!("/{}", path.split(' ').next().unwrap_or(path));
    let text = block.iter().flat_map(|(_, line)| [*line, "\n"]).collect();
    Some(Step::File { path, text, line })
}

/// Prompts, and what follows each.
fn commands(block: &[(usize, &str)]) -> Result<Vec<Step>> {
    let mut found: Vec<Command> = Vec::new();
    for (line, text) in block {
        let prompt = text.split_once("$ ").filter(|(host, _)| {
            let known = ["", "client", "blue", "green"];
            known.contains(host)
        });
        match (prompt, found.last_mut()) {
            (Some((host, text)), _) => found.push(Command {
                host: if host.is_empty() { "host" } else { host }.to_owned(),
                text: text.to_owned(),
                says: Vec::new(),
                exit: exit(text),
                line: *line,
            }),
            (None, Some(last)) if *text == ">" || text.starts_with("> ") => {
                last.text += "\n";
                last.text += text.get(2..).unwrap_or_default();
            }
            (None, Some(last)) => last.says.push((*text).to_owned()),
            (None, None) => bail!("line {line}: a block of commands begins with one"),
        }
    }
    Ok(found.into_iter().map(Step::Command).collect())
}

/// `# ends with 5` says so.
fn exit(command: &str) -> i32 {
    let said = command.split_once("# ends with ").map(|(_, it)| it);
    let digits = said.map(|it| {
        it.chars()
            .take_while(char::is_ascii_digit)
            .collect::<String>()
    });
    digits.and_then(|it| it.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_what_its_reader_does() -> Result<()> {
        let text = "# A\n<!-- network: one-host -->\n<!-- given: blue at 1.2.3.4:5 -->\n## One\n```toml\n# /etc/a b\nx\n```\n\
                    ## Two\n```console\n$ false  # ends with 1\nclient$ a \\\n> b\nsaid\n```\n<!-- not run: why -->\n```console\n$ x\n```\n";
        let page = Page::parse("a.md", text, 0)?;
        let reasons = page.blocks.iter().map(|it| it.not_run.as_deref());
        let reasons: Vec<_> = reasons.collect();
        ensure!(reasons == [None, None, Some("why")], "{reasons:?}");
        ensure!(
            page.not_run == ["why"] && page.steps.len() == 5,
            "{page:#?}"
        );
        let Some(Step::Command(last)) = page.steps.last() else {
            bail!("{page:#?}")
        };
        ensure!(last.host == "client" && last.text == "a \\\nb", "{last:?}");
        ensure!(last.says == ["said"] && last.line == 12, "{last:?}");
        let two = page.section("Two")?;
        ensure!(two.steps.len() == 2, "{two:#?}");
        let Some(Step::Command(first)) = two.steps.first() else {
            bail!("{two:#?}")
        };
        ensure!(first.exit == 1 && first.line == 11, "{first:?}");
        ensure!(matches!(&page.steps[2], Step::File { path, .. } if path == "/etc/a"));
        Ok(())
    }
}
