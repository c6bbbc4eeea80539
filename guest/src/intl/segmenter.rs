//! `Intl.Segmenter`, the segments of a text and their iterator.

use super::js::{self, Js, keep_prototype, new_object, receiver, text};
use super::locales::{canonical_list, resolve};
use super::member;
use super::number::word_of;
use super::options::Options;
use crate::engine::{self, Thrown};
use crate::globals::{Args, Returned};
use cellblock_intl::segment::{Granularity, Segment, segments};
use rquickjs::{Ctx, Object, Persistent, Value};
use std::cell::Cell;
use std::ffi::CStr;
use std::rc::Rc;

/// The name of the prototype of segments, as V8 has it in messages.
pub(super) const SEGMENTS: &CStr = c"%Segments.prototype%";
/// The same of the iterator.
pub(super) const ITERATOR: &CStr = c"%SegmentIterator.prototype%";

const GRANULARITIES: [(&str, Granularity); 3] = [
    ("grapheme", Granularity::Grapheme),
    ("word", Granularity::Word),
    ("sentence", Granularity::Sentence),
];

/// What a segmenter holds.
#[derive(Debug)]
struct Service {
    locale: String,
    granularity: Granularity,
}

/// A text and where it is cut.
struct Segments {
    granularity: Granularity,
    /// The text as JavaScript has it.
    input: Persistent<Value<'static>>,
    /// The same in units of UTF-16.
    units: Vec<u16>,
    segments: Vec<Segment>,
}

/// An iterator over segments.
struct Walk {
    segments: Rc<Segments>,
    /// How many were returned.
    returned: Cell<usize>,
}

/// Makes the prototypes of segments and of their iterator.
pub(super) fn make_prototypes<'js>(ctx: &Ctx<'js>) -> Js<'js, ()> {
    let segments = Object::new(ctx.clone()).map_err(|_| Thrown::caught(ctx))?;
    keep_prototype(ctx, "%Segments.prototype%", &segments);
    let iterator = Object::new(ctx.clone()).map_err(|_| Thrown::caught(ctx))?;
    let base = member(ctx, &member(ctx, &ctx.globals(), c"Iterator")?, c"prototype")?;
    iterator.set_prototype(Some(&base)).map_err(|_| Thrown::caught(ctx))?;
    super::tag(ctx, &iterator, "Segmenter String Iterator")?;
    keep_prototype(ctx, "%SegmentIterator.prototype%", &iterator);
    Ok(())
}

/// `new Intl.Segmenter(locales, options)`
pub(super) fn construct<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let requested = canonical_list(ctx, args.first())?;
    let options = Options::object(ctx, args.get(1), "Intl.Segmenter")?;
    options.matcher()?;
    let granularity = options.choice(c"granularity", &GRANULARITIES)?.unwrap_or_default();
    let locale = resolve(&requested, &[]).locale;
    js::construct(ctx, args.this, "Segmenter", Service { locale, granularity })
}

/// `resolvedOptions()`
pub(super) fn resolved_options<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let method = "Intl.Segmenter.prototype.resolvedOptions";
    let service = receiver::<Service>(ctx, args.this, method)?;
    js::object(
        ctx,
        &[
            ("locale", text(ctx, &service.locale)?),
            ("granularity", text(ctx, word_of(&GRANULARITIES, &service.granularity))?),
        ],
    )
}

/// `segment(string)`
pub(super) fn segment<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let service = receiver::<Service>(ctx, args.this, "Intl.Segmenter.prototype.segment")?;
    let none = Value::new_undefined(ctx.clone());
    let input = engine::to_string(ctx, args.first().unwrap_or(&none))?;
    let units = engine::units_of(ctx, &input)?;
    let language = service.locale.split('-').next().unwrap_or_default();
    let segments = Segments {
        granularity: service.granularity,
        segments: segments(service.granularity, language, &units),
        input: Persistent::save(ctx, input),
        units,
    };
    new_object(ctx, &js::prototype(ctx, &SEGMENTS.to_string_lossy())?, Rc::new(segments))
}

/// `containing(index)` of segments
pub(super) fn containing<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let segments = receiver::<Segments>(ctx, args.this, "%Segments.prototype%.containing")?;
    let none = Value::new_undefined(ctx.clone());
    let index = engine::number_of(ctx, args.first().unwrap_or(&none))?;
    let index = if index.is_nan() { 0.0 } else { index.trunc() };
    if index < 0.0 || index >= segments.units.len() as f64 {
        return Ok(none);
    }
    let index = index as usize;
    segments.describe(ctx, segments.segments.partition_point(|segment| segment.end <= index))
}

/// `[Symbol.iterator]()` of segments
pub(super) fn iterator<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let segments = receiver::<Segments>(ctx, args.this, "%SegmentIsPrototype%[@@iterator]")?;
    let walk = Walk { segments, returned: Cell::new(0) };
    new_object(ctx, &js::prototype(ctx, &ITERATOR.to_string_lossy())?, Rc::new(walk))
}

/// `next()` of the iterator
pub(super) fn next<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let walk = receiver::<Walk>(ctx, args.this, "%SegmentIterator.prototype%.next")?;
    let at = walk.returned.get();
    let done = at == walk.segments.segments.len();
    let value = if done {
        Value::new_undefined(ctx.clone())
    } else {
        walk.returned.set(at + 1);
        walk.segments.describe(ctx, at)?
    };
    let done = Value::new_bool(ctx.clone(), done);
    js::object(ctx, &[("value", Some(value)), ("done", Some(done))])
}

impl Segments {
    /// A segment as JavaScript sees it.
    fn describe<'js>(&self, ctx: &Ctx<'js>, at: usize) -> Returned<'js> {
        let segment = self.segments[at];
        let start = at.checked_sub(1).map_or(0, |before| self.segments[before].end);
        let input = self.input.clone().restore(ctx).map_err(|_| Thrown::caught(ctx))?;
        let word_like = (self.granularity == Granularity::Word)
            .then(|| Value::new_bool(ctx.clone(), segment.word_like));
        js::object(
            ctx,
            &[
                ("segment", Some(engine::new_string_of(ctx, &self.units[start..segment.end])?)),
                ("index", Some(Value::new_number(ctx.clone(), start as f64))),
                ("input", Some(input)),
                ("isWordLike", word_like),
            ],
        )
    }
}
