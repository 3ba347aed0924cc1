import assert from "node:assert/strict";
import { BUSY_LOOK_US, LOOK_US, Patience } from "./patience.ts";

Deno.test("Patience looks once sleeps were short, and stops when that finds nothing", () => {
  const patience = new Patience(() => true);
  assert.equal(patience.lookUs(0), 0);
  patience.slept(30);
  assert.equal(patience.lookUs(0), 0);
  patience.slept(30);
  assert.equal(patience.lookUs(0), LOOK_US);
  patience.missed();
  assert.equal(patience.lookUs(0), 0);
});

Deno.test("Patience goes on through a few misses after many finds, but not for ever", () => {
  const patience = new Patience(() => true);
  for (let i = 0; i < 100; i++) patience.found();
  for (let i = 0; i < 3; i++) patience.missed();
  assert.equal(patience.lookUs(0), LOOK_US);
  patience.missed();
  assert.equal(patience.lookUs(0), 0);
});

Deno.test("Patience ends with a long sleep", () => {
  const patience = new Patience(() => true);
  for (let i = 0; i < 100; i++) patience.found();
  patience.slept(5000);
  assert.equal(patience.lookUs(0), 0);
});

Deno.test("Patience is shorter where others wait for a CPU, and asks about them rarely", () => {
  let isFree = true;
  let asked = 0;
  const patience = new Patience(() => {
    asked++;
    return isFree;
  });
  patience.found();
  patience.found();
  assert.equal(patience.lookUs(0), LOOK_US);
  isFree = false;
  assert.equal(patience.lookUs(1000), LOOK_US);
  assert.equal(asked, 1);
  assert.equal(patience.lookUs(10_000), BUSY_LOOK_US);
  isFree = true;
  assert.equal(patience.lookUs(20_000), LOOK_US);
  assert.equal(asked, 3);
});
