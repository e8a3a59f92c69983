//! Writes the packet cases as inputs, one file each, into the directories `pipeline` and `rewrite` below the
//! one that `SWITCHER_SEEDS` names, and ends. A fuzz target only in that it is linked like one.
#![no_main]

use std::path::Path;

libfuzzer_sys::fuzz_target!(
    init: write_and_end(),
    |_data: &[u8]| {}
);

fn write_and_end() {
    write().expect("SWITCHER_SEEDS names a directory that can be written to");
    std::process::exit(0)
}

fn write() -> std::io::Result<()> {
    let directory = std::env::var_os("SWITCHER_SEEDS").unwrap_or_default();
    for (target, inputs) in switcher_fuzz::fuzz::seeds() {
        let directory = Path::new(&directory).join(target);
        std::fs::create_dir_all(&directory)?;
        for (number, input) in inputs.iter().enumerate() {
            std::fs::write(directory.join(format!("case-{number:03}")), input)?;
        }
    }
    Ok(())
}
