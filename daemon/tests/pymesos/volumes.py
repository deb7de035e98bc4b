"""A scheduler of pymesos that reserves, makes a volume, uses it and gives all back: volumes.py MASTER."""
import getpass
import sys

from addict import Dict
from pymesos import MesosSchedulerDriver, Scheduler

DYNAMIC = [dict(type="DYNAMIC", role="web", principal="p")]


def scalar(name, value, **more):
    return dict(name=name, type="SCALAR", scalar=dict(value=value), **more)


RESERVED = scalar("disk", 100, reservations=DYNAMIC)
DISK = dict(
    persistence=dict(id="db", principal="p"), volume=dict(container_path="data", mode="RW")
)
VOLUME = scalar("disk", 60, reservations=DYNAMIC, disk=DISK)


def operation(kind, **what):
    """An operation whose end is told."""
    return {"type": kind, "id": dict(value=kind.lower()), kind.lower(): what}


class Test(Scheduler):
    def __init__(self):
        self.finished = []
        self.step = self.write

    def task(self, offer, name, command):
        return dict(
            task_id=dict(value=name),
            agent_id=offer.agent_id,
            name=name,
            resources=[scalar("cpus", 0.1), scalar("mem", 32), VOLUME],
            command=dict(value=command),
        )

    def launch(self, offer, name, command):
        return dict(type="LAUNCH", launch=dict(task_infos=[self.task(offer, name, command)]))

    def write(self, offer):
        return [
            operation("RESERVE", resources=[RESERVED]),
            operation("CREATE", volumes=[VOLUME]),
            self.launch(offer, "write", "echo kept > data/file"),
        ]

    def read(self, offer):
        return [self.launch(offer, "read", "grep -qx kept data/file")]

    def give_back(self, offer):
        return [
            operation("DESTROY", volumes=[VOLUME]),
            operation("UNRESERVE", resources=[RESERVED]),
        ]

    def nothing_left(self, offer):
        if not any(one.reservations for one in offer.resources):
            print("finished: %s" % " ".join(sorted(self.finished)))
            driver.stop()

    def resourceOffers(self, driver, offers):
        for offer in offers:
            step, self.step = self.step, None
            operations = step and step(offer)
            if operations:
                driver.acceptOffers([offer.id], operations, Dict(refuse_seconds=0.1))
            elif not driver.aborted:
                self.step = self.step or step
                driver.declineOffer(offer.id, Dict(refuse_seconds=0.1))

    def statusUpdate(self, driver, update):
        driver.acknowledgeStatusUpdate(update)
        if update.state == "TASK_FINISHED":
            self.step = self.read if update.task_id.value == "write" else self.give_back
        elif update.state not in ("TASK_STAGING", "TASK_STARTING", "TASK_RUNNING"):
            raise AssertionError(update)

    def operationStatusUpdate(self, driver, update):
        assert update.state == "OPERATION_FINISHED", update
        # What pymesos itself would send has the uuid in another form than Mesos takes.
        acknowledged = dict(
            agent_id=update.agent_id, operation_id=update.operation_id, uuid=update.uuid.value
        )
        driver.acknowledgeOperationStatusUpdate(acknowledged)
        self.finished.append(update.operation_id.value)
        if len(self.finished) == 4:
            self.step = self.nothing_left


framework = Dict(user=getpass.getuser(), name="volumes", principal="p", roles=["web"])
framework.capabilities = [dict(type="MULTI_ROLE"), dict(type="RESERVATION_REFINEMENT")]
driver = MesosSchedulerDriver(
    Test(), framework, sys.argv[1], use_addict=True, implicit_acknowledgements=False
)
driver.run()
