//! Guides: pages to read, without code of their own.
//!
//! | page | answers |
//! | --- | --- |
//! | [`durability`] | What survives a crash, a full disk or a damaged file, and what each policy costs? |
//! | [`recall`] | How much fits into a memory, how good is a recall, and who notices when it drops? |
//! | [`tuning`] | What does every setting do, in which direction, and how is it written in a file? |
//! | [`operations`] | How is it sized, backed up, watched, restored and upgraded? |
//! | [`security`] | What is protected, and what is not? |

pub mod durability;
pub mod operations;
pub mod recall;
pub mod security;
pub mod tuning;
