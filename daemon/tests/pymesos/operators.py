"""An operator of pymesos: operators.py MASTER AGENT, of one agent whose host is `here`, where one task
has run that said `here` and no other line."""
import json
import sys
import time
import urllib.request

from pymesos import (
    MesosOperatorAgentDriver,
    MesosOperatorMasterDriver,
    OperatorMaster,
    decode_data,
)

MASTER, AGENT = sys.argv[1], sys.argv[2]
PATIENCE = 30


class Events(OperatorMaster):
    """Takes whatever the stream of events tells."""

    def frameworkAdded(self, framework_info):
        pass

    def frameworkUpdated(self, framework_info):
        pass

    def frameworkRemoved(self, framework_info):
        pass

    def taskAdded(self, task_info):
        pass

    def taskUpdated(self, task_info):
        pass

    def agentAdded(self, agent_info):
        pass

    def agentRemoved(self, agent_info):
        pass


def eventually(is_so, what):
    end = time.time() + PATIENCE
    while not is_so():
        assert time.time() < end, what
        time.sleep(0.05)


def daemon(driver):
    """What masters and agents answer alike."""
    assert driver.getHealth()["get_health"]["healthy"] is True
    version = driver.getVersion()["get_version"]["version_info"]
    assert version["version"], version
    flags = {one["name"]: one.get("value") for one in driver.getFlags()["get_flags"]["flags"]}
    assert "work_dir" in flags, flags
    metrics = driver.getMetrics(5 * 10**9)["get_metrics"]["metrics"]
    assert any(one["name"].endswith("uptime_secs") for one in metrics), metrics
    assert "level" in driver.getLoggingLevel()["get_logging_level"]
    driver.setLoggingLevel(1, 10**9)
    assert driver.getLoggingLevel()["get_logging_level"]["level"] == 1
    assert driver.getState()["type"] == "GET_STATE"
    assert driver.getTasks()["type"] == "GET_TASKS"
    assert driver.getFrameworks()["type"] == "GET_FRAMEWORKS"
    assert driver.getExecutors()["type"] == "GET_EXECUTORS"


def scalar(name, value, **more):
    return dict(name=name, type="SCALAR", scalar=dict(value=value), **more)


def agents(master):
    return master.getAgents()["get_agents"]["agents"]


def reservations_and_volumes(master, agent_id):
    dynamic = [dict(type="DYNAMIC", role="web", principal="op")]
    reserved = scalar("disk", 100, reservations=dynamic)
    persistence = dict(id="db", principal="op")
    disk = dict(persistence=persistence, volume=dict(container_path="data", mode="RW"))
    volume = dict(scalar("disk", 60, reservations=dynamic), disk=disk)

    def has(what):
        resources = agents(master)[0]["total_resources"]
        return any(what(one) for one in resources)

    def is_reserved(one):
        # Operators are told both forms.
        layers = [layer["role"] for layer in one.get("reservations", [])]
        return layers == ["web"] and one["role"] == "web" and "reservation" in one

    def is_volume(one):
        return "persistence" in one.get("disk", {})

    master.reserveResources(agent_id, [reserved])
    eventually(lambda: has(is_reserved), "the reservation")
    master.createVolumes(agent_id, [volume])
    eventually(lambda: has(is_volume), "the volume")
    master.destroyVolumes(agent_id, [volume])
    eventually(lambda: not has(is_volume), "the end of the volume")
    master.unreserveResources(agent_id, [reserved])
    eventually(lambda: not has(is_reserved), "the end of the reservation")


def quota(master):
    guarantee = [scalar("cpus", 1), scalar("mem", 64)]
    master.setQuota(dict(role="web", guarantee=guarantee, force=True))
    infos = master.getQuota()["get_quota"]["status"]["infos"]
    assert [one["role"] for one in infos] == ["web"], infos
    master.removeQuota("web")
    assert not master.getQuota()["get_quota"]["status"].get("infos")


def weights(master):
    master.updateWeights([dict(role="web", weight=2.5)])
    infos = master.getWeights()["get_weights"]["weight_infos"]
    assert infos == [dict(role="web", weight=2.5)], infos
    roles = {one["name"]: one["weight"] for one in master.getRoles()["get_roles"]["roles"]}
    assert roles["web"] == 2.5, roles


def maintenance(master):
    machine = dict(hostname="absent", ip="10.9.9.9")
    start = dict(nanoseconds=int(time.time() * 10**9) + 3600 * 10**9)
    window = dict(machine_ids=[machine], unavailability=dict(start=start))
    master.updateMaintenanceSchedule([window])
    schedule = master.getMaintenanceSchedule()["get_maintenance_schedule"]["schedule"]
    assert schedule["windows"][0]["machine_ids"] == [machine], schedule
    status = master.getMaintenanceStatus()["get_maintenance_status"]["status"]
    assert status["draining_machines"][0]["id"] == machine, status
    master.startMaintenance([machine])
    status = master.getMaintenanceStatus()["get_maintenance_status"]["status"]
    assert status["down_machines"] == [machine], status
    master.stopMaintenance([machine])
    schedule = master.getMaintenanceSchedule()["get_maintenance_schedule"]["schedule"]
    assert not schedule.get("windows"), schedule


def sandbox():
    """Of the task that has run; what the operator API tells of executors has no directory."""
    def ended():
        state = json.load(urllib.request.urlopen("http://%s/state" % AGENT))
        of = state["completed_frameworks"]
        return [one["directory"] for framework in of for one in framework["completed_executors"]]

    eventually(ended, "the task that has run")
    return ended()[0]


def files(agent):
    path = sandbox()
    names = [one["path"] for one in agent.listFiles(path)["list_files"]["file_infos"]]
    assert any(name.endswith("/stdout") for name in names), names
    read = agent.readFile(path + "/stdout", 3, 1)["read_file"]
    assert decode_data(read["data"]) == b"ere" and read["size"] == 5, read


def main():
    master, agent = MesosOperatorMasterDriver(MASTER, Events()), MesosOperatorAgentDriver(AGENT)
    master.start()
    eventually(lambda: master.connected, "the stream of events")
    daemon(master)
    daemon(agent)
    leader = master.getMaster()["get_master"]["master_info"]
    assert "%s:%s" % (leader["hostname"], leader["port"]) == MASTER, leader
    row = agents(master)[0]
    assert row["active"] and row["agent_info"]["hostname"] == "here", row
    reservations_and_volumes(master, row["agent_info"]["id"]["value"])
    quota(master)
    weights(master)
    maintenance(master)
    files(agent)
    assert agent.getContainers(True, True)["type"] == "GET_CONTAINERS"
    print("operator calls answered")


main()
