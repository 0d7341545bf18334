# dlcli as a container. It uses the CPU unless another build of PyTorch is asked for:
#   docker build -t dlcli .
#   docker build -t dlcli:gpu --build-arg TORCH_BACKEND=cu130 .
#   docker run --rm -v "$PWD/runs:/workspace/runs" dlcli train model=lstm data=shakespeare
#   docker run --rm --gpus all -v "$PWD/runs:/workspace/runs" dlcli:gpu train model=lstm data=shakespeare
# A mounted folder must be writable for user 1000; add --user "$(id -u)" where yours is another.
# trainer.compile=true needs a C++ compiler, which this image leaves out.
ARG PYTHON_VERSION=3.13

FROM python:${PYTHON_VERSION}-slim AS build
# cpu, or one of uv's CUDA builds such as cu130: see `uv pip install --help`, --torch-backend
ARG TORCH_BACKEND=cpu
WORKDIR /source
RUN python -m venv /opt/dlcli && pip install --no-cache-dir "uv>=0.9,<1"
COPY . .
RUN uv pip install --no-cache --compile-bytecode --python /opt/dlcli/bin/python \
    --torch-backend "${TORCH_BACKEND}" .

FROM python:${PYTHON_VERSION}-slim
COPY --from=build /opt/dlcli /opt/dlcli
# The folders belong to everybody's group, so that `docker run --user` works too.
RUN useradd --create-home --uid 1000 dlcli \
    && install --directory --owner=dlcli --mode=0777 /workspace /workspace/runs /cache
ENV PATH=/opt/dlcli/bin:$PATH \
    DLCLI_CACHE=/cache \
    PYTHONUNBUFFERED=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000
WORKDIR /workspace
VOLUME ["/workspace/runs", "/cache"]
ENTRYPOINT ["dlcli"]
CMD ["--help"]
