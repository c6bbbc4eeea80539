//! `Intl.v8BreakIterator`, which only V8 has: the places where a text may be cut.

use super::js::{self, Js, bound, receiver, text};
use super::locales::{canonical_list, resolve};
use super::number::word_of;
use super::options::Options;
use crate::engine::{self, run_helper};
use crate::globals::{Args, Returned};
use cellblock_intl::segment::{Granularity, Segment, segments};
use rquickjs::{Ctx, Value, qjs};
use std::cell::{Cell, RefCell};
use std::ffi::c_int;

/// Lines need a table that the guest has no room for: a type that is refused.
const TYPES: [(&str, Granularity); 3] = [
    ("word", Granularity::Word),
    ("character", Granularity::Grapheme),
    ("sentence", Granularity::Sentence),
];

/// What an iterator holds.
struct Service {
    locale: String,
    granularity: Granularity,
    /// The text in units of UTF-16.
    text: RefCell<Vec<u16>>,
    segments: RefCell<Vec<Segment>>,
    /// How many segments are behind the place where it is.
    passed: Cell<usize>,
}

/// `Intl.v8BreakIterator(locales, options)`
pub(super) fn construct<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let requested = canonical_list(ctx, args.first())?;
    let options = Options::object(ctx, args.get(1), "Intl.v8BreakIterator")?;
    options.matcher()?;
    let granularity = options.choice(c"type", &TYPES)?.unwrap_or(Granularity::Word);
    let service = Service {
        locale: resolve(&requested, &[]).locale,
        granularity,
        text: RefCell::default(),
        segments: RefCell::default(),
        passed: Cell::new(0),
    };
    js::construct(ctx, args.this, "v8BreakIterator", service)
}

/// `resolvedOptions()`
pub(super) fn resolved_options<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let method = "Intl.v8BreakIterator.prototype.resolvedOptions";
    let service = receiver::<Service>(ctx, args.this, method)?;
    js::object(
        ctx,
        &[
            ("locale", text(ctx, &service.locale)?),
            ("type", text(ctx, word_of(&TYPES, &service.granularity))?),
        ],
    )
}

/// A function of an iterator, which a getter returns bound to it.
#[derive(Clone, Copy)]
enum Act {
    AdoptText,
    First,
    Next,
    Current,
    BreakType,
}

const ACTS: [(Act, &str); 5] = [
    (Act::AdoptText, "adoptText"),
    (Act::First, "first"),
    (Act::Next, "next"),
    (Act::Current, "current"),
    (Act::BreakType, "breakType"),
];

/// The getter of a bound function, by its place in [`ACTS`].
fn get<'js, const ACT: usize>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let method = format!("get Intl.v8BreakIterator.prototype.{}", ACTS[ACT].1);
    receiver::<Service>(ctx, args.this, &method)?;
    let length = c_int::from(matches!(ACTS[ACT].0, Act::AdoptText));
    bound(ctx, args.this, (ACT, length), act)
}

/// The getters, in V8's order.
pub(super) const ADOPT_TEXT: super::Run = get::<0>;
pub(super) const FIRST: super::Run = get::<1>;
pub(super) const NEXT: super::Run = get::<2>;
pub(super) const CURRENT: super::Run = get::<3>;
pub(super) const BREAK_TYPE: super::Run = get::<4>;

unsafe extern "C" fn act(
    raw: *mut qjs::JSContext,
    _this: qjs::JSValue,
    count: c_int,
    values: *mut qjs::JSValue,
    magic: c_int,
    data: *mut qjs::JSValue,
) -> qjs::JSValue {
    let (act, name) = ACTS[magic as usize];
    // SAFETY: called by the engine with its own arguments; the data is the iterator.
    unsafe {
        run_helper(raw, *data, count, values, |ctx, args| {
            let service = receiver::<Service>(ctx, args.this, name)?;
            let place = |place: f64| Ok(Value::new_number(ctx.clone(), place));
            match act {
                Act::AdoptText => {
                    service.adopt(ctx, args)?;
                    Ok(Value::new_undefined(ctx.clone()))
                }
                Act::First => {
                    service.passed.set(0);
                    place(0.0)
                }
                Act::Next => place(if service.advance() { service.current() } else { -1.0 }),
                Act::Current => place(service.current()),
                Act::BreakType => engine::new_string(ctx, service.break_type()),
            }
        })
    }
}

impl Service {
    /// Goes to the start of a text.
    fn adopt<'js>(&self, ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Js<'js, ()> {
        let none = Value::new_undefined(ctx.clone());
        let input = engine::to_string(ctx, args.first().unwrap_or(&none))?;
        let units = engine::units_of(ctx, &input)?;
        let language = self.locale.split('-').next().unwrap_or_default();
        self.segments.replace(segments(self.granularity, language, &units));
        self.text.replace(units);
        self.passed.set(0);
        Ok(())
    }

    /// Goes to the next place; false at the end.
    fn advance(&self) -> bool {
        let more = self.passed.get() < self.segments.borrow().len();
        self.passed.set(self.passed.get() + usize::from(more));
        more
    }

    fn current(&self) -> f64 {
        self.end_of(self.passed.get()) as f64
    }

    /// Where so many segments end.
    fn end_of(&self, count: usize) -> usize {
        count.checked_sub(1).map_or(0, |last| self.segments.borrow()[last].end)
    }

    /// What stands before the place, in V8's words. They are ICU's rule status by numbers, of
    /// which a sentence without an end has that of a number.
    fn break_type(&self) -> &'static str {
        let passed = self.passed.get();
        let Some(last) = passed.checked_sub(1) else { return "none" };
        let place = self.end_of(last)..self.end_of(passed);
        let text = String::from_utf16_lossy(&self.text.borrow()[place]);
        match self.granularity {
            Granularity::Grapheme => "none",
            Granularity::Sentence => {
                let end = text.trim_end().trim_end_matches(['"', '\'', ')', ']', '”', '’', '»']);
                if end.ends_with(['.', '?', '!', '…', '。', '？', '！']) {
                    "none"
                } else {
                    "number"
                }
            }
            Granularity::Word if !self.segments.borrow()[last].word_like => "none",
            Granularity::Word if text.contains(is_ideograph) => "ideo",
            // A word is what it ends with: `a1` is a number.
            Granularity::Word => match text.chars().rev().find(|last| last.is_alphanumeric()) {
                Some(last) if last.is_alphabetic() => "letter",
                _ => "number",
            },
        }
    }
}

fn is_ideograph(character: char) -> bool {
    matches!(character, '\u{3040}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}
