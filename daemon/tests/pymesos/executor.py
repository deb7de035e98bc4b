"""An executor of pymesos: runs each task by telling that it does, and echoes messages."""
import threading
import time

from addict import Dict
from pymesos import Executor, MesosExecutorDriver, decode_data, encode_data


def status(task_id, state):
    update = Dict()
    update.task_id.value = task_id
    update.state = state
    update.timestamp = time.time()
    return update


class Echo(Executor):
    def launchTask(self, driver, task):
        def run():
            driver.sendStatusUpdate(status(task.task_id.value, "TASK_RUNNING"))
            if decode_data(task.data) != b"wait":
                update = status(task.task_id.value, "TASK_FINISHED")
                update.data = encode_data(decode_data(task.data) + b" done")
                driver.sendStatusUpdate(update)

        threading.Thread(target=run).start()

    def killTask(self, driver, task_id):
        driver.sendStatusUpdate(status(task_id.value, "TASK_KILLED"))

    def frameworkMessage(self, driver, message):
        driver.sendFrameworkMessage(encode_data(b"echo " + decode_data(message)))


MesosExecutorDriver(Echo(), use_addict=True).run()
