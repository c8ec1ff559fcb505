//! End-to-end tests of tlscope; see tests/.
