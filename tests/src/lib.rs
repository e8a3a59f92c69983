//! What the test targets share: packet cases as data.
