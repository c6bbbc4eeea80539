//! Whether a page can be read.

use crate::browser::Page;

/// Widths of a phone and of a desk.
pub const WIDTHS: [u32; 2] = [360, 1280];

/// Every text that is shown, with less contrast to what is behind it than WCAG 2.2 asks for
/// (AA, 4.5 to 1), and how much it has.
const CONTRAST: &str = r#"(() => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    const rgba = (color) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = color;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data].map((part) => part / 255);
    };
    const over = ([r, g, b, a], [x, y, z]) => [r, g, b].map((part, i) => part * a + [x, y, z][i] * (1 - a));
    const light = (color) => color
        .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
        .reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = (element) => {
        const layers = [];
        for (let each = element; each; each = each.parentElement) {
            layers.push(rgba(getComputedStyle(each).backgroundColor));
        }
        return layers.reverse().reduce((below, layer) => over(layer, below), [1, 1, 1]);
    };
    const faint = [];
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let seen = 0; walk.nextNode() && seen < 3000; ) {
        const element = walk.currentNode.parentElement;
        if (!walk.currentNode.data.trim() || !element.checkVisibility()) continue;
        seen++;
        const back = behind(element);
        const [one, two] = [light(back), light(over(rgba(getComputedStyle(element).color), back))];
        const contrast = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
        if (contrast < 4.5) faint.push(`${walk.currentNode.data.slice(0, 40)}: ${contrast.toFixed(2)}`);
    }
    return faint;
})()"#;

/// Asserts that a page can be read: light and dark, on a phone and on a desk. Keeps pictures.
pub fn assert_legible(page: &mut Page, name: &str) {
    for width in WIDTHS {
        page.resize(width);
        // The layout is new from here on.
        page.evaluate("new Promise((done) => requestAnimationFrame(() => done()))");
        let wide = page.evaluate("document.documentElement.scrollWidth");
        assert!(wide.as_u64() <= Some(width.into()), "{name}: {wide} wide on {width}");
        let mut pictures = Vec::new();
        for scheme in ["light", "dark"] {
            page.scheme(scheme);
            let faint = page.evaluate(CONTRAST);
            assert_eq!(faint, serde_json::json!([]), "{name}, {scheme}");
            pictures.push(page.picture(&format!("{name}-{width}-{scheme}")));
        }
        assert_ne!(pictures[0], pictures[1], "{name}: light and dark are the same");
    }
}
