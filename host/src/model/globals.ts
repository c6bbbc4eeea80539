type ImageDetail = "auto" | "low" | "high" | "original";

/** Prints a text item; a value that is not a string as JSON. */
declare function text(value?: unknown): void;
/** Prints an image: a base64 `data:` URL, an object with one, or an MCP image block. */
declare function image(imageUrlOrItem: string | { image_url: string; detail?: ImageDetail | null } | ImageContent, detail?: ImageDetail | null): void;
/** Prints audio: a base64 `data:` URL, an object with one, or an MCP audio block. */
declare function audio(audioUrlOrItem: string | { audio_url: string } | AudioContent): void;
/** Prints an image that a tool has generated, and the hint that came with it. */
declare function generatedImage(result: { image_url: string; output_hint?: string }): void;
/** Keeps a JSON value for later programs. */
declare function store(key: string, value: unknown): void;
/** A copy of a value that was kept; `undefined` when there is none. */
declare function load(key: string): any;
/** Sends a text at once, while the program goes on. */
declare function notify(value: unknown): void;
/** Lets the caller have the output so far at once, while the program goes on. */
declare function yield_control(): void;
/** Ends the program at once, as a success. */
declare function exit(): never;
/** Calls back later. Pending timers do not keep the program alive. */
declare function setTimeout(callback: () => void, delayMs?: number): number;
/** Drops a timer. */
declare function clearTimeout(id?: number | null): void;
/** Every nested tool. */
declare const ALL_TOOLS: Array<{ name: string; description: string }>;
