// A real browser, and what stories in it have in common.

import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import puppeteer from "puppeteer-core";

export const launch = (executablePath, more = ["--renderer-process-limit=6"]) =>
  puppeteer.launch({
    executablePath,
    headless: true,
    args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", ...more],
  });

// What is waited for: a tab behind others paints nothing, so there is no frame to look at it in.
export const patient = { timeout: 20000, polling: 20 };

// Writes files of a site; takes away those without content.
export function write(folder, files) {
  for (const [path, content] of Object.entries(files)) {
    const file = join(folder, path);
    mkdirSync(dirname(file), { recursive: true });
    if (content === undefined) rmSync(file, { force: true });
    else writeFileSync(file, content);
  }
}

export const runner =
  (pmx, folder) =>
  (...args) =>
    execFileSync(pmx, args, { cwd: dirname(folder), encoding: "utf8" });

// Prints each story's outcome as one line of JSON, and ends.
export async function report(stories, browser) {
  let failed = 0;
  for (const [name, story] of Object.entries(stories)) {
    try {
      await story(name);
      console.log(JSON.stringify({ name, passed: true }));
    } catch (error) {
      failed += 1;
      console.log(JSON.stringify({ name, passed: false, why: String(error.stack ?? error) }));
    }
  }
  await browser.close();
  process.exit(failed ? 1 : 0);
}
