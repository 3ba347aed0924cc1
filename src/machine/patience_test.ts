import assert from "node:assert/strict";
import { Patience } from "./patience.ts";

Deno.test("Patience looks once sleeps were short, and stops when that finds nothing", () => {
  const patience = new Patience(() => true);
  assert.equal(patience.mayLook(0), false);
  patience.slept(30);
  assert.equal(patience.mayLook(0), false);
  patience.slept(30);
  assert.equal(patience.mayLook(0), true);
  patience.missed();
  assert.equal(patience.mayLook(0), false);
});

Deno.test("Patience goes on through a few misses after many finds, but not for ever", () => {
  const patience = new Patience(() => true);
  for (let i = 0; i < 100; i++) patience.found();
  for (let i = 0; i < 3; i++) patience.missed();
  assert.equal(patience.mayLook(0), true);
  patience.missed();
  assert.equal(patience.mayLook(0), false);
});

Deno.test("Patience ends with a long sleep", () => {
  const patience = new Patience(() => true);
  for (let i = 0; i < 100; i++) patience.found();
  patience.slept(5000);
  assert.equal(patience.mayLook(0), false);
});

Deno.test("Patience leaves CPUs to others and asks about them rarely", () => {
  let isFree = true;
  let asked = 0;
  const patience = new Patience(() => {
    asked++;
    return isFree;
  });
  patience.found();
  patience.found();
  assert.equal(patience.mayLook(0), true);
  isFree = false;
  assert.equal(patience.mayLook(1000), true);
  assert.equal(asked, 1);
  assert.equal(patience.mayLook(10_000), false);
  isFree = true;
  assert.equal(patience.mayLook(20_000), true);
  assert.equal(asked, 3);
});
