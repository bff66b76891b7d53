export DIB_GPU_IMAGE_SECRETS=${DIB_GPU_IMAGE_SECRETS:-/run/gpu-image-secrets}
