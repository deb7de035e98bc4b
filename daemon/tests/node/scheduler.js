// A scheduler of mesos-framework: scheduler.js HOST PORT, with NODE_PATH where ci/clients put it.
"use strict";

const fs = require("fs");
// It writes its log there, and does not make the directory.
fs.mkdirSync("logs", { recursive: true });

const { Scheduler, Mesos } = require("mesos-framework");
const [host, port] = process.argv.slice(2);
const COUNT = 2;
const finished = new Set();

const scheduler = new Scheduler({
    masterUrl: host,
    port: Number(port),
    frameworkName: "node",
    logging: { level: "error" },
    restartStates: [],
    tasks: {
        sleeper: {
            priority: 1,
            instances: COUNT,
            commandInfo: new (Mesos.getMesos().CommandInfo)(null, null, true, "sleep 0.2", null, null),
            resources: { cpus: 0.1, mem: 32, ports: 1, disk: 0 },
        },
    },
});

scheduler.on("ready", () => scheduler.subscribe());
scheduler.on("update", ({ status }) => {
    console.error(status.task_id.value, status.state);
    if (status.state === "TASK_FINISHED") finished.add(status.task_id.value);
    if (finished.size === COUNT) scheduler.teardown();
});
scheduler.on("error", (error) => {
    console.error(error);
    // The stream ends with the framework.
    if (finished.size < COUNT) process.exit(1);
});
scheduler.on("sent_teardown", () => {
    console.log(`${COUNT} tasks finished`);
    process.exit(0);
});
