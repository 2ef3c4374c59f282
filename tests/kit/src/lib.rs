//! Test agents for deferd.
