//! Frames as a program at tc sees them: the stack knows which checksums are unfinished.

use switcher_common::frame::{Frame, Header};
use switcher_common::rewrite::Edit;

/// The bytes of a packet whose checksum is complete.
#[derive(Debug)]
pub struct Skb<'a>(pub &'a mut [u8]);

impl Frame for Skb<'_> {
    const COMPLETED: bool = true;

    fn length(&self) -> u32 {
        self.0.length()
    }

    fn read<T: Header>(&self, offset: usize) -> Option<T> {
        self.0.read(offset)
    }

    fn write<T: Header>(&mut self, offset: usize, header: T) -> Option<()> {
        self.0.write(offset, header)
    }

    fn edit(&mut self, edit: &Edit) -> Option<()> {
        self.0.edit(edit)
    }

    fn sum(&self, offset: usize, length: usize) -> u64 {
        self.0.sum(offset, length)
    }
}
