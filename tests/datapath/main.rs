//! Packets through the program.
