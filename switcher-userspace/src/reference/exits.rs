//! Exit codes, with what is behind each.

use super::{head, keep};
use crate::exit::Exit;

/// What scripts may take from each code, in their order.
const USE: [&str; 14] = [
    "Go on.",
    "Read standard error: what was tried, and why it failed. `doctor` ends so where it finds a problem.",
    "Correct the command or the file. Nothing was done.",
    "Correct the name. Nothing was done.",
    "Look at `status` and decide anew: somebody else was faster, or something is in progress. Nothing was done.",
    "Standard error lists all that is in the way, and how to clear each. Nothing was done.",
    "Repair the colour that was to be live, or its check. Nothing was done.",
    "The colour before is live again; `show ID` tells why.",
    "Ask again with `wait`, or look at `status`.",
    "Traffic goes on. Start the agent; `emergency` switches without it.",
    "`confirm`, or open the gate; or let it go back.",
    "`plan`, `drift` and `audit verify` print them.",
    "Not used by this version.",
    "Ask as root, or as a user with the role.",
];

#[test]
fn the_page_of_exit_codes_is_up_to_date() {
    let mut text = head(
        "Exit codes",
        "A promise to scripts: codes are added, never changed. With `-o json` a failure is an RFC 9457 problem on \
         standard error, whose `type` is `urn:switcher:problem:` and the word below, whose `exit_code` is the code, and \
         whose `see` is the page that helps.",
    );
    text += "\n| code | `type` | meaning | what to do | see |\n|---:|---|---|---|---|\n";
    let codes = (0..).map_while(Exit::from_code);
    for (exit, usage) in codes.zip(USE) {
        let see = exit.page().map_or_else(String::new, |page| {
            let page = page.trim_start_matches("docs/");
            let (_, anchor) = page.split_once('#').unwrap_or((page, page));
            format!("[{anchor}](../{page})")
        });
        let (code, slug, title) = (exit.code(), exit.slug(), exit.title());
        text += &format!("| {code} | `{slug}` | {title} | {usage} | {see} |\n");
    }
    assert_eq!(Exit::from_code(14), None, "every code has its line");
    keep("exit-codes.md", &text);
}
