// The suite's own limit of five seconds a test is too short for two busy cores.
export default {
  test: { include: ["suite.test.mjs"], testTimeout: 60_000, hookTimeout: 60_000 },
};
