//! Functions of the object file.

use std::fmt::Write as _;

use anyhow::Context as _;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind};

/// Bytes of one BPF instruction; a 64-bit constant takes two.
const INSTRUCTION: u64 = 8;

/// A function in a section of the object.
#[derive(Debug, PartialEq)]
pub(crate) struct Function {
    section: String,
    name: String,
    instructions: u64,
}

/// All functions, entry points first, then by size.
pub(crate) fn functions(object: &[u8]) -> anyhow::Result<Vec<Function>> {
    let file = object::File::parse(object).context("reading the kernel object as ELF")?;
    let mut functions = Vec::new();
    for symbol in file
        .symbols()
        .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0)
    {
        let section = symbol
            .section_index()
            .context("a function outside of all sections")?;
        functions.push(Function {
            section: file.section_by_index(section)?.name()?.to_owned(),
            name: symbol.name()?.to_owned(),
            instructions: symbol.size() / INSTRUCTION,
        });
    }
    functions.sort_by_key(|function| {
        (
            !function.is_entry(),
            std::cmp::Reverse(function.instructions),
        )
    });
    Ok(functions)
}

/// As Markdown.
pub(crate) fn table(functions: &[Function]) -> String {
    let mut table = String::from("| function | section | instructions |\n|---|---|---:|\n");
    for Function {
        section,
        name,
        instructions,
    } in functions
    {
        // Writing to a string does not fail.
        let _ = writeln!(table, "| `{name}` | {section} | {instructions} |");
    }
    table
}

impl Function {
    /// Subprograms are in `.text`; the loader copies them to whoever calls them.
    fn is_entry(&self) -> bool {
        self.section != ".text"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_markdown() {
        let function = Function {
            section: "xdp".into(),
            name: "empty".into(),
            instructions: 2,
        };
        assert_eq!(
            table(&[function]),
            "| function | section | instructions |\n|---|---|---:|\n| `empty` | xdp | 2 |\n"
        );
    }

    #[test]
    fn what_is_not_an_object_is_refused() {
        assert!(functions(b"text").is_err());
    }
}
