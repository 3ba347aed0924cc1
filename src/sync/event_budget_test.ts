import assert from "node:assert/strict";
import { createEventBudget, EVENT_BURST, EVENTS_PER_SECOND, takeReport } from "./event_budget.ts";

const SECOND = 1e9;

Deno.test("takeReport() allows a burst, then a rate", () => {
  const state = createEventBudget();
  let allowed = 0;
  for (let i = 0; i < 1000; i++) if (takeReport(state, 5 * SECOND) !== undefined) allowed++;
  assert.equal(allowed, EVENT_BURST);
  assert.equal(state.refused, 1000 - EVENT_BURST);
  for (let i = 0; i < 1000; i++) if (takeReport(state, 6 * SECOND) !== undefined) allowed++;
  assert.equal(allowed, EVENT_BURST + EVENTS_PER_SECOND);
});

Deno.test("takeReport() never saves up more than a burst", () => {
  const state = createEventBudget();
  takeReport(state, 0);
  let allowed = 0;
  for (let i = 0; i < 1000; i++) if (takeReport(state, 1e6 * SECOND) !== undefined) allowed++;
  assert.equal(allowed, EVENT_BURST);
});

Deno.test("takeReport() tells with a report how many were refused before it", () => {
  const state = createEventBudget();
  for (let i = 0; i < EVENT_BURST; i++) assert.equal(takeReport(state, 0), 0);
  for (let i = 0; i < 500; i++) assert.equal(takeReport(state, 0), undefined);
  assert.equal(takeReport(state, SECOND), 500);
  assert.equal(takeReport(state, SECOND), 0);
});
