# Runs the main job of the README:
#   docker build -t normbench . && docker run --rm -v "$PWD/my-results:/normbench/my-results" normbench
FROM python:3.11-slim
WORKDIR /normbench
COPY . .
# As the README installs it. Bytecode is compiled once, in the image.
ENV UV_COMPILE_BYTECODE=1
RUN pip install --no-cache-dir uv==0.13.9 && uv venv --allow-existing && uv pip install --no-cache -c constraints.txt -e .
ENTRYPOINT [".venv/bin/bench"]
CMD ["run", "suites/first.yaml", "--results", "my-results"]
