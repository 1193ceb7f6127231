# swgctl in a container, which runs the demo: minutes on two CPU cores.
#   docker build --tag swgctl .
#   docker run --rm --init --volume swgctl:/srv swgctl
# On an NVIDIA GPU, with the CUDA version of its driver or an older one:
#   docker build --tag swgctl:cuda --build-arg TORCH=cu130 .
#   docker run --rm --init --gpus all --volume swgctl:/srv swgctl:cuda run halfcheetah-medium-v2
# /srv keeps artifacts and data between containers.
FROM python:3.11.14-slim-bookworm

# Which build of PyTorch: cpu, or that of a CUDA version, such as cu130.
ARG TORCH=cpu

# A compiler, with which long training is up to 1.7 times as fast; EGL, by which MuJoCo draws videos without a display.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ libegl1 libgl1 libgl1-mesa-dri \
    && rm -rf /var/lib/apt/lists/*

RUN pip install --no-cache-dir uv==0.13.9
WORKDIR /opt/swgctl
COPY constraints.txt ./
RUN uv pip install --system --no-cache --torch-backend "$TORCH" --constraint constraints.txt torch
COPY pyproject.toml README.md LICENSE ./
COPY recipes recipes
COPY swgctl swgctl
RUN uv pip install --system --no-cache --torch-backend "$TORCH" --constraint constraints.txt '.[video,tensorboard]'

RUN useradd --create-home swgctl && chown swgctl /srv
USER swgctl
WORKDIR /srv
ENV SWGCTL_STORE=/srv/swg-store SWGCTL_CACHE=/srv/cache
VOLUME /srv
ENTRYPOINT ["swgctl"]
CMD ["run", "demo"]
