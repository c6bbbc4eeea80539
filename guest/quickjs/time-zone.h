/* Part of quickjs.c, by edits/time-zone.toml. Both ends of each function are in Rust, in
 * guest/src/intl/clock.rs. */

/* Seconds that the program's zone is ahead of UTC at a time in milliseconds since 1970,
 * which is local or not. */
int cellblock_zone_offset(int64_t time, bool local);

/* Writes the name of the program's zone as UTF-8, at most `size` bytes, and returns how
 * many they are. */
int cellblock_zone_name_at(int64_t time, char *out, int size);

static int cellblock_zone_name(JSContext *ctx, JSValueConst date, char *out, int size)
{
    double time;

    if (JS_ThisTimeValue(ctx, &time, date))
        return 0;
    return cellblock_zone_name_at(time, out, size);
}
