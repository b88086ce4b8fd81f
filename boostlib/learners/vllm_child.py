"""vLLM in a process of its own, under whichever interpreter has it: one JSON line in, one JSON line out.

It imports no boostlib, as its environment need not have it, and ends with all that it started when its parent ends.
Not covered: what is asked, and what becomes of the answers (`vllm`).
"""

import json
import os
import queue
import shutil
import signal
import sys
import threading


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever prints does so to the log
    requests, folders = queue.SimpleQueue(), []

    def read() -> None:
        for line in sys.stdin:
            requests.put(json.loads(line))
        for folder in folders:  # it may be in memory, and its owner is gone
            shutil.rmtree(folder, ignore_errors=True)
        os.killpg(0, signal.SIGKILL)  # vLLM's own processes too

    threading.Thread(target=read, daemon=True).start()
    from vllm import LLM, SamplingParams

    llm = None
    while True:
        request = requests.get()
        engine, folder = request["engine"], request["folder"]
        folders[:] = [folder] if folder else []
        if llm is None:
            llm = LLM(model=folder, **engine)
        else:
            if engine.get("enable_sleep_mode"):
                llm.wake_up()
            if folder:
                llm.collective_rpc("reload_weights", kwargs={"weights_path": folder})
                assert llm.reset_prefix_cache(), "what was computed with the weights before is still in use"
        settings = [SamplingParams(seed=seed, **request["sampling"]) for seeds in request["seeds"] for seed in seeds]
        prompts = [
            {"prompt_token_ids": prompt}
            for prompt, seeds in zip(request["prompts"], request["seeds"], strict=True)
            for _ in seeds
        ]
        done = [output.outputs[0] for output in llm.generate(prompts, settings, use_tqdm=False)]
        if engine.get("enable_sleep_mode"):
            llm.sleep(level=1)  # weights to the CPU's memory, the rest is free for training
        answers.write(json.dumps([[list(one.token_ids), one.finish_reason == "stop"] for one in done]) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
