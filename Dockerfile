# docker build -t fusionkit . && docker run --rm -v "$PWD:/data" fusionkit demo -o /data/fusionkit-demo
# PIP_ARGS says where a build of PyTorch for your machine comes from (pytorch.org/get-started); PyPI's brings CUDA.
FROM python:3.12-slim AS build
ARG PIP_ARGS=""
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY core core
COPY priors priors
COPY backbones backbones
COPY plugins plugins
COPY reproductions reproductions
RUN python -m venv /opt/fusionkit \
    && /opt/fusionkit/bin/pip install --no-cache-dir ${PIP_ARGS} -c constraints.txt '.[codecs,serve,video]' \
    && /opt/fusionkit/bin/fusionkit demo -o demo

FROM python:3.12-slim
COPY --from=build /opt/fusionkit /opt/fusionkit
ENV PATH=/opt/fusionkit/bin:$PATH
RUN useradd --create-home --uid 10001 fusionkit
USER 10001
WORKDIR /data
ENTRYPOINT ["fusionkit"]
CMD ["--help"]
