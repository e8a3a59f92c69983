//! The window's proof: `steer` and the moves of `word`, explored exhaustively and at random.
//!
//! Proven: *as long as its tag fits and it is never idle for a whole phase, every packet of a connection
//! goes to the endpoint that its SYN went to*, through any sequence of arming, switching, draining and
//! settling, among three tables; and a new connection whose tag fits goes where the current table says.
//! Switches may be set for an instant, or undo themselves; the same holds on both sides of each instant.
//!
//! Copies of a SYN are part of that, with these exceptions (`client` models them, `regressions` shows them):
//!
//! - A SYN whose tag was refused.
//! - A switch without arming, while a SYN sent before is still unanswered; unless the window is open and the
//!   switch goes back to the table it began from. So a rollback is safe without arming as long as the window
//!   is open, and one straight from draining may split such a SYN.
//! - A SYN sent before arming began, of which no copy was seen while armed, repeated after the switch.

mod client;
mod datagrams;
mod handshakes;
mod owned;
mod random;
mod regressions;
mod tagged;
mod timed;
