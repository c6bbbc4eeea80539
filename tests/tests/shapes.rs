//! Objects whose shapes the guest keeps for the next of their kind.

use cellblock_tests::guest::{Guest, Outcome, Step};

#[test]
fn objects_of_one_kind_share_nothing_but_their_shape() {
    let mut guest = Guest::new();
    let source = "
        const seen = [];
        Object.defineProperty(Object.prototype, 'c', { set() { seen.push('setter') }, configurable: true });
        const make = (i) => ({ a: i, b: i + 1, c: i + 2 });
        const all = Array.from({ length: 300 }, (_, i) => make(i));
        delete all[7].b;
        all[8].d = 1;
        Object.defineProperty(all[9], 'a', { get: () => 'got', enumerable: false });
        Object.setPrototypeOf(all[10], null);
        Object.preventExtensions(all[11]);
        try { Object.defineProperty(all[11], 'd', { value: 1 }) } catch (e) { seen.push(e.name) }
        const frozen = Object.freeze({ a: 1 });
        try { Object.defineProperty(frozen, 'b', { value: 2, writable: true, enumerable: true, configurable: true }) } catch (e) { seen.push(e.name) }
        delete Object.prototype.c;
        text(JSON.stringify([all[6], all[7], all[8], all[9], all[10], all[11], frozen, make(1)]));
        text(all.every((o, i) => i < 12 || (o.a === i && o.b === i + 1 && o.c === i + 2)));
        text(JSON.stringify(JSON.parse('[{\"a\":1,\"b\":2},{\"a\":1,\"b\":2,\"a\":3},{\"b\":1,\"a\":2},{\"a\":1,\"__proto__\":2}]')));
        class P { constructor(x) { this.x = x; if (x % 2) this.odd = true; this.y = x } }
        text(Array.from({ length: 50 }, (_, i) => Object.keys(new P(i)).join('')).slice(-2).join());
        for (const n of [31, 32, 33, 80]) {
            const wide = (m) => { const o = {}; for (let i = 0; i < n; i++) o['k' + i] = i * m; return o };
            wide(1);
            const [two, three] = [wide(2), wide(3)];
            text(Object.entries(two).every(([k, v], i) => k === 'k' + i && v === i * 2 && three[k] === i * 3));
        }
        text(seen.join());";
    let step = guest.execute(source);
    let Step::Finished(end) = step else { panic!("not finished: {step:?}") };
    assert!(matches!(end.outcome, Outcome::Completed), "{end:?}");
    let expected = [
        r#"[{"a":6,"b":7,"c":8},{"a":7,"c":9},{"a":8,"b":9,"c":10,"d":1},{"b":10,"c":11},{"a":10,"b":11,"c":12},{"a":11,"b":12,"c":13},{"a":1},{"a":1,"b":2,"c":3}]"#,
        "true",
        r#"[{"a":1,"b":2},{"a":3,"b":2},{"b":1,"a":2},{"a":1,"__proto__":2}]"#,
        "xy,xoddy",
        "true",
        "true",
        "true",
        "true",
        "TypeError,TypeError",
    ];
    assert_eq!(guest.texts(), expected);
}

#[test]
fn no_prototype_is_kept_while_memory_is_short() {
    let mut guest = Guest::new();
    let source = "
        const most = new Uint8Array(50 << 20);
        for (let i = 0; i < 300; i++) {
            const held = { bytes: new Uint8Array(1 << 20) };
            Object.create(held).own = i;
        }
        text(most.length);";
    let step = guest.execute(source);
    let Step::Finished(end) = step else { panic!("not finished: {step:?}") };
    assert!(matches!(end.outcome, Outcome::Completed), "{end:?}");
    assert_eq!(guest.texts(), [(50 << 20).to_string()]);
}
