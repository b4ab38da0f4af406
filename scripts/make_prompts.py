"""Makes configs/prompts/*.toml, the published zero-shot prompts, one file a task.

    python scripts/make_prompts.py --prompts ../shared/reference/prompts.json \
        --out crates/medsiglip/configs/prompts

The input holds the tables of the MedGemma Technical Report (arXiv 2507.05201v4) as JSON. The order
of the classes is kept. Standard library alone.
"""

import argparse
import json
import pathlib

KINDS = {"multiclass": "softmax over all classes", "binary_per_finding": "softmax over present and absent"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()

    published = json.loads(args.prompts.read_text())
    args.out.mkdir(parents=True, exist_ok=True)
    for name, task in published["tasks"].items():
        (args.out / f"{name}.toml").write_text(toml_of(name, task, published["source"]), encoding="utf-8")


def toml_of(name, task, source):
    report, arxiv = source.split(", ")[:2]
    lines = [
        f"# medsiglip classify IMAGE... --task {name}",
        f"# {report}, {arxiv}, {task['source']}; {task['domain']}.",
    ]
    if task["source"] == "Table A4":
        lines.append("# The table does not separate its prompts: the split is a reading of it.")
    lines += [f"# {KINDS[task['kind']]}.".capitalize().replace("# s", "# S"), "",
              f"name = {quoted(name)}", f"kind = {quoted(task['kind'])}"]
    for label, prompts in task.get("classes", {}).items():
        lines += ["", "[[classes]]", f"label = {quoted(label)}", *array("present", prompts)]
    for label, prompts in task.get("findings", {}).items():
        lines += ["", "[[classes]]", f"label = {quoted(label)}", *array("present", prompts["present"]),
                  *array("absent", prompts["absent"])]
    return "\n".join(lines) + "\n"


def array(key, prompts):
    if len(prompts) == 1:
        return [f"{key} = [{quoted(prompts[0])}]"]
    return [f"{key} = [", *(f"    {quoted(prompt)}," for prompt in prompts), "]"]


def quoted(text):
    """A TOML basic string: JSON's escapes are among TOML's."""
    return json.dumps(text, ensure_ascii=False)


if __name__ == "__main__":
    main()
