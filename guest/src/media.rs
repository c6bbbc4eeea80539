//! `image`, `audio` and `generatedImage`: output that is not text.
//!
//! Both media take the same three shapes: a URL, an object with the URL as a
//! member, or a raw MCP block. Only `data:` URLs leave the guest.

use crate::bindings::cellblock::code_mode::output::{self, ContentItem, Image, ImageDetail};
use crate::engine::{self, Thrown};
use crate::globals::{Args, Returned};
use crate::json;
use rquickjs::{Ctx, Object, Value};
use std::ffi::CStr;

/// What differs between images and audio.
struct Medium {
    name: &'static str,
    url_member: &'static CStr,
    expects: &'static str,
}

const IMAGE: Medium = Medium {
    name: "image",
    url_member: c"image_url",
    expects: "image expects a non-empty image URL string, an object with image_url and optional \
              detail, or a raw MCP image block",
};

const AUDIO: Medium = Medium {
    name: "audio",
    url_member: c"audio_url",
    expects: "audio expects a non-empty audio URL string, an object with audio_url, or a raw MCP \
              audio block",
};

/// A medium as the program gave it: the URL, and the detail beside it if any.
struct Given<'js> {
    url: String,
    detail: Option<Detail<'js>>,
}

enum Detail<'js> {
    /// Given by the program: a bad one is an error.
    Member(Value<'js>),
    /// Found in an MCP block: a bad one is ignored.
    Meta(String),
}

/// `image(value, detail?)`
pub(crate) fn image<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    emit_image(ctx, args.first(), args.get(1))?;
    Ok(Value::new_undefined(ctx.clone()))
}

/// `audio(value)`
pub(crate) fn audio<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let given = read(ctx, &AUDIO, args.first())?;
    check_url(&AUDIO, &given.url)?;
    output::emit(&ContentItem::Audio(given.url)).map_err(Thrown::Limit)?;
    Ok(Value::new_undefined(ctx.clone()))
}

/// `generatedImage(result)`
pub(crate) fn generated_image<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let result =
        args.first().and_then(Value::as_object).filter(|result| !result.is_array()).ok_or_else(
            || Thrown::text("generatedImage expects an image generation result object"),
        )?;
    let hint = as_text(ctx, engine::get(ctx, result, c"output_hint"))?;
    let hint = match hint {
        hint if hint.is_undefined() || hint.is_null() => None,
        hint if hint.is_string() => Some(engine::string_of(ctx, &hint)?),
        _ => {
            return Err(Thrown::text("generatedImage output_hint must be a string when provided"));
        }
    };
    emit_image(ctx, args.first(), None)?;
    if let Some(hint) = hint {
        output::emit(&ContentItem::Text(hint)).map_err(Thrown::Limit)?;
    }
    Ok(Value::new_undefined(ctx.clone()))
}

fn emit_image<'js>(
    ctx: &Ctx<'js>,
    value: Option<&Value<'js>>,
    detail: Option<&Value<'js>>,
) -> Result<(), Thrown<'js>> {
    let given = read(ctx, &IMAGE, value)?;
    let detail = match (detail.filter(|detail| !is_absent(detail)), given.detail) {
        (Some(detail), _) => detail_of(ctx, detail)?,
        (None, Some(Detail::Member(detail))) if !is_absent(&detail) => detail_of(ctx, &detail)?,
        (None, Some(Detail::Meta(detail))) => parse_detail(&detail).unwrap_or(ImageDetail::High),
        (None, _) => ImageDetail::High,
    };
    check_url(&IMAGE, &given.url)?;
    output::emit(&ContentItem::Image(Image { url: given.url, detail })).map_err(Thrown::Limit)
}

fn is_absent(value: &Value<'_>) -> bool {
    value.is_undefined() || value.is_null()
}

fn detail_of<'js>(ctx: &Ctx<'js>, detail: &Value<'js>) -> Result<ImageDetail, Thrown<'js>> {
    if !detail.is_string() {
        return Err(Thrown::text("image detail must be a string when provided"));
    }
    let name = engine::string_of(ctx, detail)?;
    parse_detail(&name.to_ascii_lowercase())
        .ok_or_else(|| Thrown::text("image detail must be one of: auto, low, high, original"))
}

fn parse_detail(name: &str) -> Option<ImageDetail> {
    Some(match name {
        "auto" => ImageDetail::Auto,
        "low" => ImageDetail::Low,
        "high" => ImageDetail::High,
        "original" => ImageDetail::Original,
        _ => return None,
    })
}

/// Reads any of the three shapes.
fn read<'js>(
    ctx: &Ctx<'js>,
    medium: &Medium,
    value: Option<&Value<'js>>,
) -> Result<Given<'js>, Thrown<'js>> {
    let expects = || Thrown::text(medium.expects);
    let value = value.ok_or_else(expects)?;
    if value.is_string() {
        let url = engine::string_of(ctx, value)?;
        return if url.is_empty() { Err(expects()) } else { Ok(Given { url, detail: None }) };
    }
    let object = value.as_object().filter(|object| !object.is_array()).ok_or_else(expects)?;
    let url = as_text(ctx, engine::get(ctx, object, medium.url_member))?;
    if url.is_undefined() {
        return read_block(ctx, medium, value);
    }
    if !url.is_string() {
        return Err(expects());
    }
    let url = engine::string_of(ctx, &url)?;
    if url.is_empty() {
        return Err(expects());
    }
    let detail = as_text(ctx, engine::get(ctx, object, c"detail"))?;
    Ok(Given { url, detail: Some(Detail::Member(detail)) })
}

/// Reads an MCP block, by way of JSON: `toJSON` counts, what JSON drops does not.
fn read_block<'js>(
    ctx: &Ctx<'js>,
    medium: &Medium,
    value: &Value<'js>,
) -> Result<Given<'js>, Thrown<'js>> {
    let expects = || Thrown::text(medium.expects);
    let json = as_text(ctx, json::to_text(ctx, value))?.ok_or_else(expects)?;
    let block = engine::parse_json(ctx, json)?;
    let block = block.as_object().filter(|block| !block.is_array()).ok_or_else(expects)?;
    let kind = text_member(ctx, block, c"type")?.ok_or_else(expects)?;
    if kind != medium.name {
        let name = medium.name;
        return Err(Thrown::text(format!("{name} only accepts MCP {name} blocks, got {kind:?}")));
    }
    let data = text_member(ctx, block, c"data")?
        .filter(|data| !data.is_empty())
        .ok_or_else(|| Thrown::text(format!("{0} expected MCP {0} data", medium.name)))?;
    let url = if scheme_of(&data).is_some_and(|scheme| scheme == "data") {
        data
    } else {
        let mime = mime_of(ctx, block)?.filter(|mime| !mime.is_empty());
        format!("data:{};base64,{data}", mime.as_deref().unwrap_or("application/octet-stream"))
    };
    let meta = engine::get(ctx, block, c"_meta")?;
    let detail = match meta.as_object() {
        Some(meta) => text_member(ctx, meta, c"codex/imageDetail")?.map(Detail::Meta),
        None => None,
    };
    Ok(Given { url, detail })
}

/// `mimeType` where that member is present, whatever it is, else `mime_type`.
fn mime_of<'js>(ctx: &Ctx<'js>, block: &Object<'js>) -> Result<Option<String>, Thrown<'js>> {
    if engine::get(ctx, block, c"mimeType")?.is_undefined() {
        text_member(ctx, block, c"mime_type")
    } else {
        text_member(ctx, block, c"mimeType")
    }
}

/// A member of a block, which came from JSON; absent when it is not a string.
fn text_member<'js>(
    ctx: &Ctx<'js>,
    object: &Object<'js>,
    name: &CStr,
) -> Result<Option<String>, Thrown<'js>> {
    let value = engine::get(ctx, object, name)?;
    if value.is_string() { engine::string_of(ctx, &value).map(Some) } else { Ok(None) }
}

/// What a getter or `toJSON` threw, as the string that helpers throw.
fn as_text<'js, T>(ctx: &Ctx<'js>, result: Result<T, Thrown<'js>>) -> Result<T, Thrown<'js>> {
    result.map_err(|thrown| match thrown {
        Thrown::Value(exception) => Thrown::as_text(ctx, &exception),
        other => other,
    })
}

fn check_url<'js>(medium: &Medium, url: &str) -> Result<(), Thrown<'js>> {
    match scheme_of(url).as_deref() {
        Some("data") => Ok(()),
        Some("http" | "https") if medium.name == "image" => Err(Thrown::text(
            "Tool call failed: remote image URLs are not supported in tool outputs. Pass a base64 \
             data URI instead",
        )),
        _ => Err(Thrown::text(format!(
            "Tool call failed: invalid {} output. Pass a base64 data URI instead",
            medium.name
        ))),
    }
}

/// The scheme of a URL in lower case.
fn scheme_of(url: &str) -> Option<String> {
    let (scheme, _) = url.split_once(':')?;
    Some(scheme.to_ascii_lowercase())
}
