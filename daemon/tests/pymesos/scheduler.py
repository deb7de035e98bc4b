"""A scheduler of pymesos: scheduler.py MASTER commands|executor|failover|group|revive|masters NUMBER."""
import getpass
import itertools
import os
import sys
import threading
import time

from addict import Dict
from pymesos import MesosSchedulerDriver, Scheduler, decode_data, encode_data

MASTER, MODE, NUMBER = sys.argv[1], sys.argv[2], int(sys.argv[3])
CPUS, MEM = 0.1, 16
# None: it shows no credential.
PRINCIPAL, SECRET = os.environ.get("PRINCIPAL"), os.environ.get("SECRET")
# All masters of a set, for `masters`.
MASTERS = os.environ.get("MASTERS", "").split(",")
# How long nothing may be offered while offers are suppressed, in seconds.
QUIET = 2


def resources(cpus, mem):
    return [
        dict(name="cpus", type="SCALAR", scalar=dict(value=cpus)),
        dict(name="mem", type="SCALAR", scalar=dict(value=mem)),
    ]


class Test(Scheduler):
    def __init__(self):
        self.launched = self.finished = self.killed = 0
        self.running = set()
        self.reconciled = set()
        self.messages = []
        self.failing_over = False
        self.suppressed = self.revived = False

    def reregistered(self, driver, master):
        self.failing_over = True
        driver.reconcileTasks([])

    def suppress(self, driver, offers):
        """Wants no offers for a while, and then again."""
        assert not self.suppressed, "offered while suppressed: %s" % offers
        self.suppressed = True
        driver.suppressOffers()
        driver.declineOffer([offer.id for offer in offers], Dict(refuse_seconds=0))

        def revive():
            self.revived = True
            driver.reviveOffers()

        threading.Timer(QUIET, revive).start()

    def task(self, offer):
        task = Dict()
        task.task_id.value = "task-%d" % self.launched
        task.agent_id.value = offer.agent_id.value
        task.name = "task"
        task.resources = resources(CPUS, MEM)
        if MODE == "executor":
            task.executor = Dict()
            task.executor.executor_id.value = "echo"
            task.executor.command.value = "%s %s" % (os.environ["PYTHON"], os.environ["EXECUTOR"])
            task.executor.resources = resources(0.1, 64)
            task.data = encode_data(b"wait" if self.launched == 0 else b"go")
        else:
            task.command.value = "sleep 1000" if MODE in ("failover", "masters") else "true"
        self.launched += 1
        return task

    def group(self, tasks):
        """All of one offer as one group, under the executor that the agent is."""
        operation = Dict(type="LAUNCH_GROUP")
        executor = Dict(type="DEFAULT", resources=resources(0.1, 32))
        executor.executor_id.value = "pod"
        executor.framework_id.value = driver.framework_id
        operation.launch_group = Dict(executor=executor, task_group=Dict(tasks=tasks))
        return operation

    def resourceOffers(self, driver, offers):
        if MODE == "revive" and not self.revived:
            return self.suppress(driver, offers)
        for offer in offers:
            have = {r.name: r.scalar.value for r in offer.resources if r.type == "SCALAR"}
            cpus, mem = have.get("cpus", 0) - 0.1, have.get("mem", 0) - 64
            tasks = []
            while self.launched < NUMBER and cpus >= CPUS and mem >= MEM:
                tasks.append(self.task(offer))
                cpus, mem = cpus - CPUS, mem - MEM
            if tasks and MODE == "group":
                driver.acceptOffers([offer.id], [self.group(tasks)], Dict(refuse_seconds=0.1))
            elif tasks:
                driver.launchTasks(offer.id, tasks, Dict(refuse_seconds=0.1))
            else:
                driver.declineOffer(offer.id, Dict(refuse_seconds=1))

    def statusUpdate(self, driver, update):
        task, state = update.task_id.value, update.state
        if self.failing_over:
            return self.found(driver, task, state)
        if state == "TASK_RUNNING":
            self.running.add(task)
            if MODE == "executor" and task == "task-0":
                driver.sendFrameworkMessage(
                    update.executor_id, update.agent_id, encode_data(b"hello")
                )
            if MODE == "failover" and len(self.running) == NUMBER:
                driver.stop(failover=True)
            if MODE == "masters" and len(self.running) == NUMBER:
                print("%d tasks run" % NUMBER, flush=True)
        elif state == "TASK_FINISHED":
            if MODE == "group":
                assert update.executor_id.value == "pod", update
            if MODE == "executor":
                assert decode_data(update.data) == b"go done", update
            self.finished += 1
        elif state == "TASK_KILLED":
            self.killed += 1
        elif state not in ("TASK_STAGING", "TASK_STARTING"):
            sys.exit("unexpected: %s" % update)
        self.look(driver)

    def frameworkMessage(self, driver, executor_id, agent_id, message):
        self.messages.append(decode_data(message))
        driver.killTask(Dict(value="task-0"))
        self.look(driver)

    def look(self, driver):
        if MODE in ("commands", "group", "revive") and self.finished == NUMBER:
            print("%d tasks finished" % self.finished)
            driver.stop()
        if MODE == "executor" and self.finished == NUMBER - 1 and self.killed == 1:
            assert self.messages == [b"echo hello"], self.messages
            print("%d tasks finished, 1 killed, messages both ways" % self.finished)
            driver.stop()

    def found(self, driver, task, state):
        if state == "TASK_RUNNING":
            self.reconciled.add(task)
        if self.reconciled == self.running:
            print("%d tasks reconciled after failover" % len(self.reconciled))
            driver.stop()


def look_for_leader(driver):
    """What ZooKeeper would do: another address, when the one that is known does not answer. A new
    leader that does not know the tasks yet is asked again."""
    for address in itertools.cycle(MASTERS):
        time.sleep(1)
        while driver.connected:
            if test.failing_over:
                driver.reconcileTasks([])
            time.sleep(1)
        driver.change_master(address)


framework = Dict(user=getpass.getuser(), name="pymesos", failover_timeout=60)
test = Test()
driver = MesosSchedulerDriver(
    test, framework, MASTER, use_addict=True, principal=PRINCIPAL, secret=SECRET
)
if MODE == "masters":
    threading.Thread(target=look_for_leader, args=(driver,), daemon=True).start()
driver.run()
if MODE == "failover":
    test.failing_over = True
    framework.id = Dict(value=driver.framework_id)
    MesosSchedulerDriver(
        test, framework, MASTER, use_addict=True, principal=PRINCIPAL, secret=SECRET
    ).run()
