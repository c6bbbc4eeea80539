// Classes: inheritance, private fields, accessors, statics, super, instanceof, conversion.
class Shape {
  static made = 0;
  #name;
  constructor(name) { this.#name = name; Shape.made++ }
  get name() { return this.#name }
  set name(name) { this.#name = String(name) }
  area() { return 0 }
  describe() { return `${this.name}: ${this.area().toFixed(2)}` }
  static compare(a, b) { return a.area() - b.area() }
}
class Circle extends Shape {
  constructor(radius) { super('circle'); this.radius = radius }
  area() { return Math.PI * this.radius ** 2 }
}
class Rectangle extends Shape {
  constructor(width, height, name = 'rectangle') { super(name); this.width = width; this.height = height }
  area() { return this.width * this.height }
  describe() { return super.describe() + ` (${this.width}x${this.height})` }
}
class Square extends Rectangle {
  #checked = false;
  constructor(side) { super(side, side, 'square') }
  check() { this.#checked ||= this.width === this.height; return this.#checked }
}
class Vector {
  constructor(x, y) { this.x = x; this.y = y }
  plus(other) { return new Vector(this.x + other.x, this.y + other.y) }
  times(by) { return new Vector(this.x * by, this.y * by) }
  get length() { return Math.hypot(this.x, this.y) }
  [Symbol.toPrimitive](hint) { return hint === 'string' ? `(${this.x}, ${this.y})` : this.length }
}
class Stack {
  #items = [];
  push(item) { this.#items.push(item); return this }
  pop() { return this.#items.pop() }
  get size() { return this.#items.length }
}
class Node { constructor(value, next = null) { this.value = value; this.next = next } }
class List {
  constructor() { this.head = null; this.count = 0 }
  add(value) { this.head = new Node(value, this.head); this.count++; return this }
  reverse() {
    let previous = null;
    for (let node = this.head; node; ) { const next = node.next; node.next = previous; previous = node; node = next }
    this.head = previous;
    return this;
  }
  *[Symbol.iterator]() { for (let node = this.head; node; node = node.next) yield node.value }
}
class Tree {
  constructor() { this.root = null; this.size = 0 }
  insert(key, value) {
    const leaf = { key, value, left: null, right: null };
    if (!this.root) { this.root = leaf; this.size++; return }
    for (let at = this.root; ; ) {
      if (key === at.key) { at.value = value; return }
      const side = key < at.key ? 'left' : 'right';
      if (!at[side]) { at[side] = leaf; this.size++; return }
      at = at[side];
    }
  }
  get(key) {
    let at = this.root;
    while (at && at.key !== key) at = key < at.key ? at.left : at.right;
    return at?.value;
  }
}
const shapes = [];
for (let i = 0; i < 2500; i++) shapes.push(i % 3 === 0 ? new Circle(i % 17) : i % 3 === 1 ? new Rectangle(i % 13, i % 7) : new Square(i % 11));
shapes.sort(Shape.compare);
let characters = 0, squares = 0;
for (const shape of shapes) {
  characters += shape.describe().length;
  if (shape instanceof Square && shape.check()) squares++;
  shape.name = shape.name + '!';
}
let at = new Vector(0, 0);
for (let i = 0; i < 5000; i++) at = at.plus(new Vector(i % 3, -i % 5).times(0.5));
const stack = new Stack();
for (let i = 0; i < 4000; i++) { stack.push(i).push(-i); stack.pop() }
const list = new List();
for (let i = 0; i < 3000; i++) list.add(i);
let listed = 0;
for (const value of list.reverse()) listed = (listed * 31 + value) | 0;
const tree = new Tree();
let seed = 7;
for (let i = 0; i < 2000; i++) { seed = (seed * 1103515245 + 12345) & 0x7fffffff; tree.insert(seed % 5000, i) }
let found = 0;
for (let i = 0; i < 5000; i++) if (tree.get(i) !== undefined) found++;
text([Shape.made, characters, squares, `${at}`, +at > 3, stack.size, listed, tree.size, found].join());
