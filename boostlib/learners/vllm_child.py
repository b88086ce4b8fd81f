"""vLLM in a process of its own, under whichever interpreter has it: one JSON line in, one out. It imports no boostlib,
as its environment need not have it, and ends with all it started when its parent ends. Not covered: what is asked."""

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
    requests, folders, llm = queue.SimpleQueue(), [], None

    def read() -> None:
        for line in sys.stdin:
            requests.put(json.loads(line))
        for folder in folders:  # it may be in memory, and its owner is gone
            shutil.rmtree(folder, ignore_errors=True)
        os.killpg(0, signal.SIGKILL)  # vLLM's own processes too

    threading.Thread(target=read, daemon=True).start()
    from vllm import LLM, SamplingParams

    while request := requests.get():
        engine, folder = request["engine"], request["folder"]
        folders[:] = [folder] if folder else []
        if llm is None:
            llm = LLM(model=folder, **engine)
        else:
            if engine["enable_sleep_mode"]:
                llm.wake_up()
            if folder:
                llm.collective_rpc("reload_weights", kwargs={"weights_path": folder})
                assert llm.reset_prefix_cache(), "what was computed with the weights before is still in use"
        pairs = list(zip(request["prompts"], request["seeds"], strict=True))
        prompts = [{"prompt_token_ids": prompt} for prompt, seeds in pairs for _ in seeds]
        settings = [SamplingParams(seed=seed, **request["sampling"]) for _, seeds in pairs for seed in seeds]
        done = [output.outputs[0] for output in llm.generate(prompts, settings, use_tqdm=False)]
        if engine["enable_sleep_mode"]:
            llm.sleep(level=1)  # weights to the CPU's memory, the rest is free for training
        told = json.dumps([[list(one.token_ids), one.finish_reason == "stop"] for one in done])
        print(told, file=answers, flush=True)


if __name__ == "__main__":
    main()
