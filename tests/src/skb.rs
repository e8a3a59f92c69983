//! Frames as a program at tc sees them: the stack knows which checksums are unfinished.

use switcher_common::frame::{Frame, Header, Inserted};
use switcher_common::rewrite::Edit;

/// The bytes of a packet whose checksum is complete.
#[derive(Debug)]
pub struct Skb<'a>(pub &'a mut Vec<u8>);

/// Bytes of a link header without tags: with one of them in the frame the stack makes no room behind it.
const PLAIN: u16 = 14;

impl Frame for Skb<'_> {
    const COMPLETED: bool = true;

    fn length(&self) -> u32 {
        self.0.as_slice().length()
    }

    fn read<T: Header>(&self, offset: usize) -> Option<T> {
        self.0.as_slice().read(offset)
    }

    fn write<T: Header>(&mut self, offset: usize, header: T) -> Option<()> {
        self.0.as_mut_slice().write(offset, header)
    }

    fn edit(&mut self, edit: &Edit) -> Option<()> {
        self.0.as_mut_slice().edit(edit)
    }

    fn insert(&mut self, l3: u16, bytes: usize, as_what: Inserted) -> Option<()> {
        if l3 != PLAIN {
            return None;
        }
        Frame::insert(self.0, l3, bytes, as_what)
    }

    fn truncate(&mut self, length: usize) -> Option<()> {
        Frame::truncate(self.0, length)
    }

    fn sum(&self, offset: usize, length: usize) -> u64 {
        self.0.as_slice().sum(offset, length)
    }
}
