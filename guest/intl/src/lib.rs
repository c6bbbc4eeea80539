//! What `Intl` computes, without a JavaScript engine: the locales, CLDR's tables,
//! and the formatting that ECMA-402 leaves to them, as V8 does it over ICU 78.
//!
//! [`data`] reads the tables that `cargo xtask intl` generates: English lies in
//! the image as it is read, other locales are unpacked when first asked for.
//! Everything else is a module for each constructor of `Intl`.

pub mod case;
pub mod collation;
pub mod data;
pub mod date;
pub mod decimal;
pub mod display;
pub mod duration;
mod icu;
pub mod info;
pub mod list;
pub mod locale;
pub mod number;
mod packed;
pub mod part;
pub mod plural;
pub mod relative;
pub mod segment;
