//! What the constructors of `Intl` share: objects that hold a Rust value, errors,
//! and the making of arrays and plain objects.

use crate::engine::{self, Property, Thrown};
use crate::globals::Returned;
use cellblock_intl::part::Part;
use rquickjs::{Ctx, Object, Value, qjs};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::ffi::{CStr, CString, c_int, c_void};
use std::rc::Rc;

/// A result with what JavaScript throws.
pub(super) type Js<'js, T> = Result<T, Thrown<'js>>;

thread_local! {
    /// The class of every object of `Intl`; the engine gives it a number once.
    static CLASS: Cell<qjs::JSClassID> = const { Cell::new(0) };
    /// Prototypes of objects that no constructor makes, by name.
    static PROTOTYPES: RefCell<Vec<(&'static str, rquickjs::Persistent<Object<'static>>)>> =
        const { RefCell::new(Vec::new()) };
}

/// What an object of `Intl` holds.
struct Holder {
    service: Rc<dyn Any>,
    /// The functions that getters such as `format` returned, to be returned again.
    bound: [Cell<qjs::JSValue>; BOUND],
}

/// Getters of one prototype that return bound functions, at most.
const BOUND: usize = 5;

/// Registers the class.
pub(super) fn register(ctx: &Ctx<'_>) {
    let class = qjs::JSClassDef {
        class_name: c"Object".as_ptr(),
        finalizer: Some(finalize),
        gc_mark: Some(mark),
        call: None,
        exotic: std::ptr::null_mut(),
    };
    let mut id = 0;
    // SAFETY: the runtime is alive; the definition is copied but for its functions,
    // which keep to the engine's rules.
    unsafe {
        let runtime = qjs::JS_GetRuntime(ctx.as_raw().as_ptr());
        qjs::JS_NewClassID(runtime, &raw mut id);
        qjs::JS_NewClass(runtime, id, &raw const class);
    }
    CLASS.set(id);
}

/// Drops what an object held.
unsafe extern "C" fn finalize(runtime: *mut qjs::JSRuntime, object: qjs::JSValue) {
    // SAFETY: the engine finalizes an object of the class once; its opaque pointer
    // is null or came from a box.
    unsafe {
        let holder = qjs::JS_GetOpaque(object, CLASS.get()).cast::<Holder>();
        if !holder.is_null() {
            let holder = Box::from_raw(holder);
            for bound in &holder.bound {
                qjs::JS_FreeValueRT(runtime, bound.get());
            }
        }
    }
}

/// Shows the engine's collector the function that an object holds.
unsafe extern "C" fn mark(
    runtime: *mut qjs::JSRuntime,
    object: qjs::JSValue,
    mark: qjs::JS_MarkFunc,
) {
    // SAFETY: as in `finalize`, but that the object lives on.
    unsafe {
        let holder = qjs::JS_GetOpaque(object, CLASS.get()).cast::<Holder>();
        if let Some(holder) = holder.as_ref() {
            for bound in &holder.bound {
                qjs::JS_MarkValue(runtime, bound.get(), mark);
            }
        }
    }
}

/// An object that holds a value, with a prototype.
pub(super) fn new_object<'js, T: 'static>(
    ctx: &Ctx<'js>,
    prototype: &Value<'js>,
    service: Rc<T>,
) -> Returned<'js> {
    // SAFETY: the class is registered; the box becomes the object's, which frees it.
    let object = unsafe {
        let raw =
            qjs::JS_NewObjectProtoClass(ctx.as_raw().as_ptr(), prototype.as_raw(), CLASS.get());
        let object = Value::from_raw(ctx.clone(), raw);
        if object.is_exception() {
            return Err(Thrown::caught(ctx));
        }
        let bound = std::array::from_fn(|_| Cell::new(qjs::JS_UNDEFINED));
        let holder = Box::new(Holder { service, bound });
        qjs::JS_SetOpaque(object.as_raw(), Box::into_raw(holder).cast::<c_void>());
        object
    };
    Ok(object)
}

/// An object as a constructor makes it, its prototype from `new.target`.
pub(super) fn construct<'js, T: 'static>(
    ctx: &Ctx<'js>,
    new_target: &Value<'js>,
    name: &'static str,
    service: T,
) -> Returned<'js> {
    construct_shared(ctx, new_target, name, Rc::new(service))
}

/// As [`construct`], of a value that others hold as well.
pub(super) fn construct_shared<'js, T: 'static>(
    ctx: &Ctx<'js>,
    new_target: &Value<'js>,
    name: &'static str,
    service: Rc<T>,
) -> Returned<'js> {
    let own = match new_target.as_object() {
        Some(target) => engine::get(ctx, target, c"prototype")?,
        None => Value::new_undefined(ctx.clone()),
    };
    let prototype = if own.is_object() { own } else { prototype(ctx, name)? };
    new_object(ctx, &prototype, service)
}

/// The value that an object of `Intl` holds, when it is of that kind.
pub(super) fn service<T: 'static>(value: &Value<'_>) -> Option<Rc<T>> {
    holder(value).and_then(|holder| Rc::clone(&holder.service).downcast().ok())
}

fn holder<'a>(value: &'a Value<'_>) -> Option<&'a Holder> {
    if !value.is_object() {
        return None;
    }
    // SAFETY: an object of the class has an opaque pointer that is null or a holder's,
    // alive as long as the object, which `value` keeps.
    unsafe { qjs::JS_GetOpaque(value.as_raw(), CLASS.get()).cast::<Holder>().as_ref() }
}

/// The function of a getter such as `format`: the same one each time. It is the getter `at`
/// of those of its prototype, which the function has as its magic number.
pub(super) fn bound<'js>(
    ctx: &Ctx<'js>,
    this: &Value<'js>,
    (at, length): (usize, c_int),
    native: unsafe extern "C" fn(
        *mut qjs::JSContext,
        qjs::JSValue,
        c_int,
        *mut qjs::JSValue,
        c_int,
        *mut qjs::JSValue,
    ) -> qjs::JSValue,
) -> Returned<'js> {
    let Some(holder) = holder(this) else { return Ok(Value::new_undefined(ctx.clone())) };
    let bound = &holder.bound[at];
    // SAFETY: the function takes a reference of `this`; the holder keeps one of the
    // function, which `mark` shows the collector.
    unsafe {
        let raw = ctx.as_raw().as_ptr();
        if Value::from_raw(ctx.clone(), qjs::JS_DupValue(raw, bound.get())).is_undefined() {
            let mut data = [this.as_raw()];
            let function = qjs::JS_NewCFunctionData(
                raw,
                Some(native),
                length,
                at as c_int,
                1,
                data.as_mut_ptr(),
            );
            let function = Value::from_raw(ctx.clone(), function);
            if function.is_exception() {
                return Err(Thrown::caught(ctx));
            }
            bound.set(qjs::JS_DupValue(raw, function.as_raw()));
        }
        Ok(Value::from_raw(ctx.clone(), qjs::JS_DupValue(raw, bound.get())))
    }
}

/// Remembers a prototype under a name.
pub(super) fn keep_prototype<'js>(ctx: &Ctx<'js>, name: &'static str, prototype: &Object<'js>) {
    let kept = rquickjs::Persistent::save(ctx, prototype.clone());
    PROTOTYPES.with_borrow_mut(|list| list.push((name, kept)));
}

/// A prototype that was remembered.
pub(super) fn prototype<'js>(ctx: &Ctx<'js>, name: &str) -> Returned<'js> {
    let kept = PROTOTYPES.with_borrow(|list| {
        list.iter().find(|(known, _)| *known == name).map(|(_, prototype)| prototype.clone())
    });
    let kept = kept.ok_or_else(|| Thrown::text("no such prototype"))?;
    kept.restore(ctx).map(Object::into_value).map_err(|_| Thrown::caught(ctx))
}

/// The time of a `Date`, `None` for anything else. Nothing of the program's runs.
pub(super) fn date_value<'js>(ctx: &Ctx<'js>, value: &Value<'js>) -> Option<f64> {
    // SAFETY: the value is alive.
    if !unsafe { qjs::JS_IsDate(value.as_raw()) } {
        return None;
    }
    let get_time = prototype(ctx, DATE_VALUE).ok()?.into_function()?;
    engine::call_with(ctx, &get_time, value, &[]).ok()?.as_number()
}

/// The name under which the engine's `Date.prototype.getTime` is kept.
pub(super) const DATE_VALUE: &str = "Date.prototype.getTime";

/// A `TypeError`.
pub(super) fn type_error<'js>(ctx: &Ctx<'js>, message: &str) -> Thrown<'js> {
    throw(ctx, message, |ctx, text| {
        // SAFETY: the format takes one C string, which outlives the call.
        unsafe { qjs::JS_ThrowTypeError(ctx.as_raw().as_ptr(), c"%s".as_ptr(), text.as_ptr()) };
    })
}

/// A `RangeError`.
pub(super) fn range_error<'js>(ctx: &Ctx<'js>, message: &str) -> Thrown<'js> {
    throw(ctx, message, |ctx, text| {
        // SAFETY: as in `type_error`.
        unsafe { qjs::JS_ThrowRangeError(ctx.as_raw().as_ptr(), c"%s".as_ptr(), text.as_ptr()) };
    })
}

fn throw<'js>(ctx: &Ctx<'js>, message: &str, raise: impl Fn(&Ctx<'js>, &CStr)) -> Thrown<'js> {
    let text = CString::new(message.replace('\0', " ")).unwrap_or_default();
    raise(ctx, &text);
    Thrown::caught(ctx)
}

/// The receiver of a method, or the `TypeError` for another one.
pub(super) fn receiver<'js, T: 'static>(
    ctx: &Ctx<'js>,
    this: &Value<'js>,
    method: &str,
) -> Js<'js, Rc<T>> {
    service(this).ok_or_else(|| incompatible(ctx, this, method))
}

/// The receiver of a member that may stand behind another object in V8, whose message
/// then names what looks for it, and what it found.
pub(super) fn unwrapped_receiver<'js, T: 'static>(
    ctx: &Ctx<'js>,
    this: &Value<'js>,
    method: &str,
    (unwrap, found): (&str, &Value<'js>),
) -> Js<'js, Rc<T>> {
    service(this).ok_or_else(|| {
        if this.is_object() {
            incompatible(ctx, found, unwrap)
        } else {
            incompatible(ctx, this, method)
        }
    })
}

/// The error for a receiver of another kind.
pub(super) fn incompatible<'js>(ctx: &Ctx<'js>, this: &Value<'js>, method: &str) -> Thrown<'js> {
    let shown = shown(ctx, this);
    type_error(ctx, &format!("Method {method} called on incompatible receiver {shown}"))
}

unsafe extern "C" {
    /// See `quickjs/words.h`.
    fn cellblock_shown_value(raw: *mut qjs::JSContext, value: qjs::JSValue) -> qjs::JSValue;
}

/// A value as V8 writes it in messages. Nothing of the program's runs.
pub(super) fn shown<'js>(ctx: &Ctx<'js>, value: &Value<'js>) -> String {
    // SAFETY: the value is alive; the engine returns one reference of a string.
    let text = unsafe {
        Value::from_raw(ctx.clone(), cellblock_shown_value(ctx.as_raw().as_ptr(), value.as_raw()))
    };
    engine::string_of(ctx, &text).unwrap_or_default()
}

/// `ToObject`
pub(super) fn to_object<'js>(ctx: &Ctx<'js>, value: &Value<'js>) -> Js<'js, Object<'js>> {
    if value.is_null() || value.is_undefined() {
        return Err(type_error(ctx, "Cannot convert undefined or null to object"));
    }
    // SAFETY: the value is alive; the engine returns one reference.
    let object = unsafe {
        Value::from_raw(ctx.clone(), qjs::JS_ToObject(ctx.as_raw().as_ptr(), value.as_raw()))
    };
    object.into_object().ok_or_else(|| Thrown::caught(ctx))
}

/// `ToBoolean`
pub(super) fn to_boolean(ctx: &Ctx<'_>, value: &Value<'_>) -> bool {
    // SAFETY: the value is alive.
    unsafe { qjs::JS_ToBool(ctx.as_raw().as_ptr(), value.as_raw()) > 0 }
}

/// A plain object with members in order; `None` leaves one out.
pub(super) fn object<'js>(ctx: &Ctx<'js>, members: &[(&str, Option<Value<'js>>)]) -> Returned<'js> {
    let object = Object::new(ctx.clone()).map_err(|_| Thrown::caught(ctx))?;
    for (name, value) in members {
        if let Some(value) = value {
            engine::define(ctx, &object, name, value, Property::Plain)?;
        }
    }
    Ok(object.into_value())
}

/// An array.
pub(super) fn array<'js>(ctx: &Ctx<'js>, items: Vec<Value<'js>>) -> Returned<'js> {
    let array = rquickjs::Array::new(ctx.clone()).map_err(|_| Thrown::caught(ctx))?;
    for (at, item) in items.into_iter().enumerate() {
        array.set(at, item).map_err(|_| Thrown::caught(ctx))?;
    }
    Ok(array.into_value())
}

/// An array of strings.
pub(super) fn strings<'js>(
    ctx: &Ctx<'js>,
    items: impl IntoIterator<Item = impl AsRef<str>>,
) -> Returned<'js> {
    let items: Js<'js, Vec<_>> =
        items.into_iter().map(|item| engine::new_string(ctx, item.as_ref())).collect();
    array(ctx, items?)
}

/// What `formatToParts` returns; with `range`, with where each part comes from.
pub(super) fn parts<'js>(ctx: &Ctx<'js>, parts: &[Part], range: bool) -> Returned<'js> {
    let items: Js<'js, Vec<_>> = parts
        .iter()
        .map(|part| {
            let source =
                if range { Some(engine::new_string(ctx, part.source.name())?) } else { None };
            let unit =
                if part.unit.is_empty() { None } else { Some(engine::new_string(ctx, part.unit)?) };
            let kind = engine::new_string(ctx, part.kind)?;
            let value = engine::new_string(ctx, &part.value)?;
            object(
                ctx,
                &[("type", Some(kind)), ("value", Some(value)), ("unit", unit), ("source", source)],
            )
        })
        .collect();
    array(ctx, items?)
}

/// A JavaScript string.
pub(super) fn text<'js>(ctx: &Ctx<'js>, text: &str) -> Js<'js, Option<Value<'js>>> {
    engine::new_string(ctx, text).map(Some)
}

/// A number.
pub(super) fn number<'js>(ctx: &Ctx<'js>, number: u32) -> Option<Value<'js>> {
    Some(Value::new_int(ctx.clone(), number as i32))
}

/// A primitive, or the one that an object of a built-in class such as `Number` holds.
pub(super) fn unwrapped<'js>(
    ctx: &Ctx<'js>,
    value: &Value<'js>,
    class: &CStr,
) -> Option<Value<'js>> {
    let Some(object) = value.as_object() else { return Some(value.clone()) };
    // The built-in method checks its receiver and runs nothing of the program's.
    let constructor = engine::get(ctx, &ctx.globals(), class).ok()?.into_object()?;
    let prototype = engine::get(ctx, &constructor, c"prototype").ok()?.into_object()?;
    let value_of = engine::get(ctx, &prototype, c"valueOf").ok()?.into_function()?;
    engine::call_with(ctx, &value_of, object.as_value(), &[]).ok()
}
