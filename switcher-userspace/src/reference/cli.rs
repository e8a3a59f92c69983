//! Every command with its options, from clap's definitions.

use clap::{Command, CommandFactory as _};

use super::{head, keep};
use crate::cli::Cli;

#[test]
fn the_page_of_commands_is_up_to_date() {
    let mut command = Cli::command()
        .term_width(100)
        .disable_help_subcommand(true)
        // What this machine has set is nobody's default.
        .mut_args(|it| it.hide_env_values(true));
    command.build();
    let mut text = head(
        "Commands",
        "What `switcher --help` and `switcher COMMAND --help` print. [Exit codes](exit-codes.md) are the same for all, and so are global options, which \
         stand in the first block.",
    );
    text += &format!("\n```text\n{}\n```\n", help(&mut command));
    for name in names(&command) {
        let command = command.find_subcommand(&name).expect("it is there");
        // Global options stand above.
        let mut command = command.clone().mut_args(|it| {
            let global = it.is_global_set();
            it.hide(global)
        });
        text += &format!(
            "\n## switcher {name}\n\n```text\n{}\n```\n",
            help(&mut command)
        );
    }
    keep("cli.md", &text);
}

fn help(command: &mut Command) -> String {
    let help = command.render_long_help().to_string();
    let lines: Vec<_> = help.trim_end().lines().map(str::trim_end).collect();
    lines.join("\n")
}

fn names(command: &Command) -> Vec<String> {
    let shown = command.get_subcommands().filter(|it| !it.is_hide_set());
    shown.map(|it| it.get_name().to_owned()).collect()
}
