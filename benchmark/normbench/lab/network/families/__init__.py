"""One file for each family of networks that takes a stem for small images and a width; `FAMILY` is its builder.

The stems leave maps of 32, 16, 8 and 4 pixels at 32x32 images (He et al. 2016, section 4.2, do so for ResNets);
transformers and mixers see 8x8 patches (Swin: 16x16, halved three times).
"""
