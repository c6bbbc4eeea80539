#!/usr/bin/env node
// Runs the program `cellblock` of the package for this platform.

import { spawn } from "node:child_process";
import { constants } from "node:os";
import { binary } from "../dist/host.js";

let program;
try {
  program = binary();
} catch (error) {
  process.stderr.write(`cellblock: ${error.message}\n`);
  process.exit(1);
}
const child = spawn(program, process.argv.slice(2), { stdio: "inherit" });
// What this process is asked to do, the program does.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.on(signal, () => child.kill(signal));
}
child.on("error", (error) => {
  process.stderr.write(`cellblock: ${error.message}\n`);
  process.exit(1);
});
child.on("exit", (code, signal) => {
  process.exit(code ?? 128 + (constants.signals[signal] ?? 0));
});
