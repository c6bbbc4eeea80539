/* New shapes stay for a while.
 *
 * An object that is given its properties one after the other passes through a shape for
 * each. The engine changes a shape in place when the object is the only one that has it, and
 * frees it with its last object, so that the next object of the kind makes most of its shapes
 * anew. Here new shapes stay for a while, and each knows the one that an object of it was
 * given last.
 *
 * What is kept is released when garbage is collected, so that no prototype lives for it; and
 * nothing is kept while memory is more than half full, as then it might run out before. */

/* Objects with more properties than this are tables rather than records. */
#define CELLBLOCK_STEPS 32

/* Whether `next` is `sh` with one property more. */
static bool cellblock_is_step(JSShape *sh, JSShape *next, JSAtom atom, int flags)
{
    JSShapeProperty *added = &get_shape_prop(next)[sh->prop_count];
    return added->atom == atom && added->flags == flags;
}

/* Forgets what a shape is next to, as it is about to change or to be freed. */
static void cellblock_forget_steps(JSShape *sh)
{
    if (sh->step)
        sh->step->from = NULL;
    if (sh->from)
        sh->from->step = NULL;
    sh->step = sh->from = NULL;
}

/* Remembers that `next` is `sh` with one property more. Both are hashed. */
static void cellblock_remember_step(JSShape *sh, JSShape *next)
{
    if (sh->step)
        sh->step->from = NULL;
    if (next->from)
        next->from->step = NULL;
    sh->step = next;
    next->from = sh;
}

/* Keeps a new shape until as many more are new as are kept. */
static void cellblock_keep_shape(JSRuntime *rt, JSShape *sh)
{
    JSShape **place, *old;
    /* a limit of zero is none */
    if (rt->malloc_state.malloc_size > (rt->malloc_state.malloc_limit - 1) / 2)
        return;
    place = &rt->kept_shapes[rt->kept_shapes_at++ % countof(rt->kept_shapes)];
    old = *place;
    *place = js_dup_shape(sh);
    js_free_shape_null(rt, old);
}

static void cellblock_release_shapes(JSRuntime *rt)
{
    for (size_t i = 0; i < countof(rt->kept_shapes); i++) {
        JSShape *kept = rt->kept_shapes[i];
        rt->kept_shapes[i] = NULL;
        js_free_shape_null(rt, kept);
    }
}

/* Adds a plain property to a plain object that others of its shape were given before.
 * Takes `value` over when it returns true; false says nothing but that this is not so. */
static inline bool cellblock_add_known(JSContext *ctx, JSValueConst object, JSAtom atom, JSValue value)
{
    JSObject *p;
    JSShape *sh, *next;
    if (JS_VALUE_GET_TAG(object) != JS_TAG_OBJECT)
        return false;
    p = JS_VALUE_GET_OBJ(object);
    sh = p->shape;
    next = sh->step;
    if (!next || !cellblock_is_step(sh, next, atom, JS_PROP_C_W_E))
        return false;
    if (!p->extensible || p->is_exotic || p->is_prototype)
        return false;
    if (next->prop_size != sh->prop_size) {
        JSProperty *grown = js_realloc_rt(ctx->rt, p->prop, sizeof(JSProperty) * next->prop_size);
        if (!grown)
            return false;
        p->prop = grown;
    }
    p->shape = js_dup_shape(next);
    p->prop[sh->prop_count].u.value = value;
    js_free_shape(ctx->rt, sh);
    return true;
}
