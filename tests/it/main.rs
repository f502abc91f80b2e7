//! Integration tests of the library and the binary.
